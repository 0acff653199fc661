import pytest

from core.http import rate_limits
from tests.runs.conftest import api, root

__all__ = ["api", "root"]


@pytest.fixture(autouse=True)
def nobody_has_asked_yet():
    """Each test has the documented number of requests a minute to itself."""
    rate_limits.limiter.cache_clear()
