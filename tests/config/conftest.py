import pytest

from runicorn_site import ratelimits
from tests.runs.conftest import api, root

__all__ = ["api", "root"]


@pytest.fixture(autouse=True)
def nobody_has_asked_yet():
    """Each test has the documented number of requests a minute to itself."""
    ratelimits.limiter.cache_clear()
