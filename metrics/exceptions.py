"""Exceptions of stored metrics."""

from __future__ import annotations

from django.apps import apps


class CorruptBlock(Exception):
    """A stored block does not have the checksum that it was written with.

    ``block`` names the row (``metrics.SeriesBlock 17``). The run's folder, if it exists, still has
    the logged values.
    """

    def __init__(self, block: str) -> None:
        super().__init__(f"{block} is damaged.")
        self.block = block

    @property
    def is_level(self) -> bool:
        return self.block.startswith("metrics.SeriesLevel")

    @property
    def run_pk(self) -> int | None:
        """Return the run that the block belongs to; None if the block no longer exists."""
        label, _, pk = self.block.partition(" ")
        model = apps.get_model(label)
        run = "run_id" if label == "metrics.EventBlock" else "series__run_id"
        return model._default_manager.filter(pk=pk).values_list(run, flat=True).first()
