import pytest
from django.test import Client

from tests.runs.conftest import root

__all__ = ["client", "root"]


@pytest.fixture
def client() -> Client:
    """A browser on this machine: its owner's."""
    return Client(headers={"host": "127.0.0.1:23300"})
