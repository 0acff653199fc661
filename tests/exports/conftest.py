from tests.runs.conftest import api, root

__all__ = ["api", "root"]
