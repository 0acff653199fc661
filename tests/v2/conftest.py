"""The storage root and the API client of the runs' tests."""

from tests.runs.conftest import api, root

__all__ = ["api", "root"]
