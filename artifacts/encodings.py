"""zstd for request and response bodies, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import zstandard
from django.http import HttpRequest

from core.http.compression import accepts
from core.http.exceptions import InvalidInput, TooLarge

LARGEST_WINDOW = 8 * 2**20
"""The most memory, in bytes, that a sender may demand; level 19 of the zstd command needs less."""

LEVEL = 1
_WORTH_IT = 0.95
_LOC: list[str | int] = ["header", "Content-Encoding"]


def reader(request: HttpRequest, most: int) -> Callable[[int], bytes]:
    """Return a function that reads the request's body, decoded, up to *most* bytes in all.

    It raises InvalidInput for an unknown encoding or a body that does not have it.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    read: Callable[[int], bytes] = request.read
    if encoding == "zstd":
        decoder = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
        read = decoder.stream_reader(request, read_across_frames=True).read  # type: ignore[arg-type]
    elif encoding != "identity":
        raise InvalidInput("Send the body as it is, or with Content-Encoding: zstd.", _LOC)
    total = 0

    def checked(size: int) -> bytes:
        nonlocal total
        try:
            block = read(size)
        except zstandard.ZstdError as error:
            raise InvalidInput(f"The body is not what zstd makes: {error}", _LOC) from None
        total += len(block)
        if total > most:
            raise TooLarge(f"Send at most {most} bytes at once, before compression.")
        return block

    return checked


def accepts_zstd(request: HttpRequest) -> bool:
    """Return whether the client accepts zstd."""
    return accepts(request, "zstd")


def is_worth_it(sample: bytes) -> bool:
    """Return whether bytes like *sample* become noticeably smaller."""
    smaller = zstandard.ZstdCompressor(level=LEVEL).compress(sample)
    return len(smaller) < _WORTH_IT * len(sample)


def compressed(blocks: Iterable[bytes]) -> Iterator[bytes]:
    coder = zstandard.ZstdCompressor(level=LEVEL).compressobj()
    for block in blocks:
        if packed := coder.compress(block):
            yield packed
    yield coder.flush()
