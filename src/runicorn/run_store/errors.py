"""Why a verb did nothing. The text is a sentence for the user."""

from __future__ import annotations


class RunRefused(Exception):
    """Nothing was changed."""


class RunNotFound(RunRefused):
    """There is no such run."""


class RunConflict(RunRefused):
    """The run is in a state, or something is in the way, that does not allow it."""


class AmbiguousRun(RunConflict):
    """Several folders have the run's id. ``directories`` names them."""

    def __init__(self, run_id: str, directories: list[str]) -> None:
        super().__init__(
            f"There are {len(directories)} runs with the id {run_id}: say which by its folder, "
            f"{' or '.join(directories)}."
        )
        self.directories = directories
