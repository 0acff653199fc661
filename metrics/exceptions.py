"""What can be wrong with stored metrics."""

from __future__ import annotations


class CorruptBlock(Exception):
    """A stored block does not have the checksum it was written with.

    ``block`` names the row (``metrics.SeriesBlock 17``). The run's folder, where there is one,
    still has what was logged.
    """

    def __init__(self, block: str) -> None:
        super().__init__(f"{block} is damaged.")
        self.block = block
