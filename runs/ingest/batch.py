"""The data parsed from bytes of a stream, which the parsers hand to the writer."""

from __future__ import annotations

from dataclasses import dataclass, field

from metrics import write as metrics

from ..models import Image, Run


@dataclass
class Batch:
    """The data parsed from some bytes of a stream, not written yet."""

    run: Run
    name: str
    stream: str
    offset: int
    events: metrics.Events | None = None
    first_event: int = 0
    images: list[Image] = field(default_factory=list)
    chunks: bytes = b""
    chunks_offset: int = 0
