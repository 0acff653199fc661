"""Detect damaged blocks of metrics by their checksum, report them, and build them again."""

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
    """Return the result of *work*, called again after each repair of a damaged block.

    Raises CorruptBlock if a block cannot be repaired: the run has no folder, or lost its events.
    """
    repaired: set[str] = set()
    while True:
        try:
            return work()
        except CorruptBlock as error:
            if error.block in repaired or not repair_block(error):
                raise
            repaired.add(error.block)


def stream_with_repair(make_items: Callable[[], Iterator[T]]) -> Iterator[T]:
    """Yield the items of *make_items*; repair a damaged block, and continue after the last item.

    *make_items* is called again then, and must yield the same items as before.
    """
    repaired: set[str] = set()
    done = 0
    while True:
        try:
            for item in islice(make_items(), done, None):
                yield item
                done += 1
            return
        except CorruptBlock as error:
            if error.block in repaired or not repair_block(error):
                raise
            repaired.add(error.block)


def repair_block(error: CorruptBlock) -> bool:
    """Build the block that *error* names again; return whether the damage is gone.

    A level is built from the blocks; anything else is read from the run's folder.
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
    folder_source.reread_events(run)
    return True
