"""Damaged blocks of metrics: found by their checksum, reported, and made again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeVar

from metrics.exceptions import CorruptBlock
from metrics.levels import rebuild_levels

from .ingest import folder_source
from .models import Run

logger = logging.getLogger("runicorn.metrics")

T = TypeVar("T")


def with_repair(work: Callable[[], T]) -> T:
    """Return what *work* returns; it is begun anew each time a damaged block was repaired.

    CorruptBlock if it cannot be: the run has no folder, or no longer its events.
    """
    seen: set[str] = set()
    while True:
        try:
            return work()
        except CorruptBlock as error:
            if error.block in seen or not repair_block(error):
                raise
            seen.add(error.block)


def stream_with_repair(pieces: Callable[[], Iterator[T]]) -> Iterator[T]:
    """Yield what *pieces* yields; a damaged block is repaired, and the rest follows the last piece.

    *pieces* is called again then, and must yield the same pieces as before.
    """
    seen: set[str] = set()
    done = 0
    while True:
        try:
            for piece in islice(pieces(), done, None):
                yield piece
                done += 1
            return
        except CorruptBlock as error:
            if error.block in seen or not repair_block(error):
                raise
            seen.add(error.block)


def repair_block(error: CorruptBlock) -> bool:
    """Make the block that *error* names again; returns whether it is gone.

    A coarser level is built from the blocks, all else is read from the run's folder.
    """
    if error.run_pk is None:  # another request was faster
        return True
    run = Run.objects.filter(pk=error.run_pk).first()
    if run is None:
        return True
    if error.is_level:
        logger.error("Run %s: %s It is built again from the values.", run.run_id, error)
        try:
            rebuild_levels(run.pk)
            return True
        except CorruptBlock as deeper:
            return repair_block(deeper)
    if not folder_source.has_events(run):
        logger.error("Run %s: %s There is no folder to read it from again.", run.run_id, error)
        return False
    logger.error("Run %s: %s It is read anew from its folder.", run.run_id, error)
    folder_source.read_anew(run)
    return True
