"""The rules for a version's texts, tags, metadata and references.

They are decided here alone, for the SDK, the command line and the server, so that all of them can
read what one of them saves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

LARGEST_SIZE = 2**53 - 1
"""Bytes. JavaScript and many JSON readers take no larger number exactly."""

DEEPEST = 100
"""Objects and lists within each other; readers of JSON give up at some depth."""


def check_text(text: object, what: str) -> str:
    """*text* if every program can store it: a text without halves of characters (lone surrogates).

    Raises ValueError.
    """
    if not isinstance(text, str):
        raise ValueError(f"{what} must be a text.")
    if not _is_encodable(text):
        raise ValueError(f"{what} has characters that are none (lone surrogates).")
    return text


def check_tags(tags: object) -> list[str]:
    """Unique tags in their order. Raises ValueError."""
    if not isinstance(tags, list | tuple) or not all(
        isinstance(tag, str) and tag.strip() and len(tag) <= 255 and _is_encodable(tag)
        for tag in tags
    ):
        raise ValueError("Tags must be texts of 1 to 255 characters.")
    return list(dict.fromkeys(tag.strip() for tag in tags))


def check_size(size: object) -> int:
    """A number of bytes. Raises ValueError."""
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= LARGEST_SIZE:
        raise ValueError(f"size must be a number of bytes from 0 to {LARGEST_SIZE}.")
    return size


def check_uri(uri: object) -> str:
    """The address of a reference. Raises ValueError."""
    if not isinstance(uri, str) or not uri.strip():
        raise ValueError("uri must be a text that is not empty.")
    return check_text(uri, "uri")


def check_metadata(metadata: object) -> dict[str, Any]:
    """An object that is nested at most ``DEEPEST`` levels. Raises ValueError."""
    if not isinstance(metadata, Mapping):
        raise ValueError("metadata must be an object.")
    level: list[object] = [metadata]
    for _ in range(DEEPEST):
        level = list({id(inner): inner for value in level for inner in _within(value)}.values())
        if not level:
            _encode(metadata)
            return dict(metadata)
    raise ValueError(f"metadata is nested more than {DEEPEST} levels deep.")


def _encode(metadata: object) -> None:
    try:
        json.dumps(metadata, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("metadata has characters that are none (lone surrogates).") from None
    except TypeError as error:
        raise ValueError(f"metadata cannot be written as JSON: {error}") from None


def _within(value: object) -> list[Any]:
    if isinstance(value, Mapping):
        inner = list(value.values())
    else:
        inner = list(value) if isinstance(value, list | tuple) else []
    return [each for each in inner if isinstance(each, Mapping | list | tuple)]


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


EDITABLE: dict[str, Callable[[object], Any]] = {
    "description": partial(check_text, what="description"),
    "metadata": check_metadata,
    "tags": check_tags,
}
"""The members of a version that may be replaced later, and the check of each."""
