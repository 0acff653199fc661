"""Paging through very many rows."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet

from core.http.fields import read_keys


class NearbyPaginator(Paginator):
    """A paginator that counts only as far as a reader can click, *ahead* pages from *current*.

    Counting all of a few hundred thousand filtered rows costs more than showing a page of them.
    """

    object_list: QuerySet

    def __init__(
        self,
        object_list: Any,
        per_page: int,
        *,
        current: object = 1,
        ahead: int = 20,
        **options: Any,
    ) -> None:
        super().__init__(object_list, per_page, **options)
        self.current = next(iter(read_keys([str(current)])), 1)
        self.ahead = ahead

    @cached_property
    def count(self) -> int:
        nearby = self.object_list.order_by().values("pk")[: self._limit + 1]
        return min(nearby.count(), self._limit)

    @property
    def has_more(self) -> bool:
        """Return whether there may be rows beyond ``count``."""
        return self.count == self._limit

    @property
    def _limit(self) -> int:
        return (min(self.current, 10**6) + self.ahead) * self.per_page
