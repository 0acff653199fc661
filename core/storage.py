"""Check that the storage root exists: a folder that was moved or is not mounted has no runs."""

from __future__ import annotations

import os

from django.conf import settings


class StorageAway(OSError):
    """The storage root is missing, which does not mean that its runs are."""

    def __init__(self) -> None:
        super().__init__(f"The storage folder {settings.RUNICORN_STORAGE_ROOT} is not there")


def check_storage() -> None:
    """Raise StorageAway if the storage root is missing or an empty mount point.

    The server itself keeps folders in it, so that it is never empty while it exists. Raises
    OSError if the system cannot tell.
    """
    try:
        with os.scandir(settings.RUNICORN_STORAGE_ROOT) as entries:
            is_empty = next(entries, None) is None
    except (FileNotFoundError, NotADirectoryError):
        is_empty = True
    if is_empty:
        raise StorageAway
