"""What an action raises when it cannot be done; views turn it into an answer."""

from __future__ import annotations


class UploadNotFound(Exception):
    """There is no such upload for this user: it was committed, given up, collected after a week, or
    somebody else began it."""


class UploadMismatch(Exception):
    """What was sent is not what was announced."""


class WrongOffset(Exception):
    """A part does not continue where the last one ended. ``wanted`` is where it does."""

    def __init__(self, wanted: int) -> None:
        super().__init__(f"Continue from offset {wanted}.")
        self.wanted = wanted


class ContentsMissing(Exception):
    """An upload cannot be committed before all its contents have arrived."""


class FilesMissing(Exception):
    """A version's folder lacks files that the version has, so that it cannot be sent as a whole."""


class NameTaken(Exception):
    """An artifact has this name and type, and the user may not change it."""
