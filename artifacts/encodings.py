"""zstd on the way: what comes in and what goes out, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import zstandard
from django.http import HttpRequest

from core.http.exceptions import InvalidInput, TooLarge

LARGEST_WINDOW = 8 * 2**20
"""Memory that a sender may make us take, in bytes; level 19 of the zstd command stays below."""

LEVEL = 1
_WORTH_IT = 0.95
_LOC: list[str | int] = ["header", "Content-Encoding"]


def reader(request: HttpRequest, most: int) -> Callable[[int], bytes]:
    """Reads the request's body, decoded; never more than *most* bytes come out of it.

    Raises InvalidInput for an encoding that is not known, or a body that is not what it says.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    read: Callable[[int], bytes] = request.read
    if encoding == "zstd":
        decoder = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
        read = decoder.stream_reader(request, read_across_frames=True).read  # type: ignore[arg-type]
    elif encoding != "identity":
        raise InvalidInput("Send the body as it is, or with Content-Encoding: zstd.", _LOC)
    got = 0

    def checked(size: int) -> bytes:
        nonlocal got
        try:
            block = read(size)
        except zstandard.ZstdError as error:
            raise InvalidInput(f"The body is not what zstd makes: {error}", _LOC) from None
        got += len(block)
        if got > most:
            raise TooLarge(f"Send at most {most} bytes at once, before compression.")
        return block

    return checked


def is_asked(request: HttpRequest) -> bool:
    """Whether the client takes zstd."""
    for offer in request.headers.get("Accept-Encoding", "").lower().split(","):
        coding, _, weight = offer.replace(" ", "").partition(";q=")
        if coding == "zstd":
            return weight.strip("0.") != "" or not weight
    return False


def is_worth_it(sample: bytes) -> bool:
    """Whether bytes like these get noticeably smaller."""
    smaller = zstandard.ZstdCompressor(level=LEVEL).compress(sample)
    return len(smaller) < _WORTH_IT * len(sample)


def compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    coder = zstandard.ZstdCompressor(level=LEVEL).compressobj()
    for piece in pieces:
        if made := coder.compress(piece):
            yield made
    yield coder.flush()
