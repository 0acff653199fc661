"""Exceptions of actions that cannot be done; views turn them into responses."""

from __future__ import annotations


class UploadNotFound(Exception):
    """This user has no such upload: it was committed or discarded, collected after a week, or
    another user began it."""


class UploadMismatch(Exception):
    """The received bytes are not what the upload announced."""


class WrongOffset(Exception):
    """A part does not continue where the last one ended, at ``expected``."""

    def __init__(self, expected: int) -> None:
        super().__init__(f"Continue from offset {expected}.")
        self.expected = expected


class ContentsMissing(Exception):
    """An upload cannot be committed before all its contents have arrived."""


class FilesMissing(Exception):
    """A version's folder lacks some of its files, so that it cannot be sent as a whole."""


class NameTaken(Exception):
    """An artifact has this name and type, and the user may not change it."""
