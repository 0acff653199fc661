"""What the admin's lists have in common: rows that nobody adds by hand, and questions first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

SHOWN = 10
"""Rows that a confirmation names one by one."""


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows come from what was logged: nobody adds one by hand."""

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return self.model.objects.visible_to(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


class LongListAdmin(ReadOnlyAdmin):
    """A list of as many rows as there may be, shown as the pages show them."""

    class Media:
        css: ClassVar = {"all": ["runicorn/parts.css"]}
        js: ClassVar = [forms.Script("runicorn/runicorn.js", defer=True)]

    list_per_page = 100
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def question(
        self, request: HttpRequest, change: Any, title: str, rows: Sequence[Any]
    ) -> dict[str, Any]:
        """What a confirmation page shows of *rows*, and sends back as ``confirmed``."""
        return {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "media": self.media,
            "change": change,
            "more": max(0, len(rows) - SHOWN),
            "confirmed": ",".join(str(row.pk) for row in rows),
        }


def confirmed_keys(request: HttpRequest) -> list[int] | None:
    """The rows that the question named: one that came into the list meanwhile is not among them.

    None if nothing was asked yet.
    """
    if "confirmed" not in request.POST:
        return None
    return [int(key) for key in request.POST["confirmed"].split(",") if key.isdecimal()]
