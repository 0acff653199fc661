"""The V2 list: the number of runs that match a filter, and a page of them.

The table of runs can answer any filter and order. Some have a shortcut, which matters if there are
many runs and data is logged all the time, so that no earlier count remains valid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from core.http import conditional

from ..api.v2.serializers import ORDERS, SHOWN
from ..querysets import RunQuerySet, TaggedRunQuerySet
from . import fulltext, tagged
from .filters import RunFilter, tag_list


@dataclass
class Listing:
    everything: RunQuerySet
    """The runs that the user may see, including deleted ones."""
    tagged: TaggedRunQuerySet
    """The same runs by tag."""
    params: Mapping[str, str]
    """The parameters of the URL."""
    narrow: Callable[[RunQuerySet], RunQuerySet]
    """Applies the filters to runs. Raises InvalidInput for invalid filters."""

    runs: RunQuerySet = field(init=False)
    narrowed_by: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.runs = self.narrow(self.everything)
        given_names = {name for name, value in self.params.items() if value}
        self.narrowed_by = given_names & RunFilter.base_filters.keys()

    def page(
        self, start: int, size: int, order: str, *, descending: bool
    ) -> tuple[int, list[tuple]]:
        """Return the number of matching runs, and *size* of them from *start* on (``SHOWN``)."""
        tags = tag_list(self.params.get("tags", ""))
        is_newest_first = order == "created_at" and descending
        if tags and self.narrowed_by == {"tags"} and is_newest_first and tagged.is_kept():
            tagged_rows = self.tagged.of_all(tags)
            keys = tagged_rows.newest_first().values_list("run_id", flat=True)[start : start + size]
            return conditional.count(tagged_rows), self.everything.rows_of([*keys], SHOWN)
        if order == "project":
            counts = self._counted_by_project()
            rows = self.runs.page_by_project(counts, start, size, SHOWN, descending=descending)
            return sum(counts.values()), rows
        total = self._total()
        runs = self.runs
        if total > fulltext.MANY and self.narrowed_by & {"q", "tags"}:
            runs = self.narrow(self.everything.scan_in_order())
        runs = runs.sorted_by(ORDERS[order], descending=descending)
        return total, runs.page(start, size, SHOWN) if start < total else []

    def _total(self) -> int:
        """Count the matching runs; where an index counts all, subtract the deleted ones."""
        deleted = self.everything.deleted()
        if not self.narrowed_by:
            return conditional.count(self.everything) - conditional.count(deleted)
        if self.narrowed_by == {"search"} and self.everything.is_everything:
            text = self.params["search"]
            if (count := fulltext.count(text, self.runs.db)) is not None:
                return count - conditional.count(deleted.filter(fulltext.reading(text)))
        return conditional.count(self.runs)

    def _counted_by_project(self) -> Counter[int | None]:
        if self.narrowed_by:
            return Counter(self.runs.counted_by("project"))
        deleted = self.everything.deleted().counted_by("project")
        return Counter(self.everything.counted_by("project")) - Counter(deleted)
