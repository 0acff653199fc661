from tests.runs.conftest import root

__all__ = ["root"]
