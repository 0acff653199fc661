"""Base classes of the admin's lists: rows are not added by hand, and actions are confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from core import access
from core.access import Right
from core.http.fields import read_keys

MAX_NAMED_ROWS = 10
"""The number of rows that a confirmation page names one by one."""


class ReadOnlyAdmin(admin.ModelAdmin):
    """A list of rows that come from what was logged: none can be added by hand.

    Users need Django's permission for the table, and the same right to the rows that the other
    doors require.
    """

    def has_right(self, request: HttpRequest, right: Right, row: Any = None) -> bool:
        """Return whether the user has *right* to *row*, or without a row to anything at all."""
        if row is None:
            return access.may(request.user, right)
        return self.rows_with_right(request, self.model.objects.filter(pk=row.pk), right).exists()

    def rows_with_right(self, request: HttpRequest, rows: QuerySet, right: Right) -> QuerySet:
        """Return the part of *rows* to which the user has *right*."""
        return access.rows(rows, request.user, right)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) and self.has_right(request, Right.SEE, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self.has_right(
            request, Right.CHANGE, obj
        )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Require the right to change: deleting moves to the recycle bin and can be undone."""
        return super().has_delete_permission(request, obj) and self.has_right(
            request, Right.CHANGE, obj
        )

    def has_purge_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may_delete = admin.ModelAdmin.has_delete_permission(self, request, obj)
        return may_delete and self.has_right(request, Right.PURGE, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return self.model.objects.visible_to(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def response_action(self, request: HttpRequest, queryset: QuerySet) -> HttpResponseBase | None:
        """Drop keys that are not integers: Django would pass them to the database, which fails."""
        keys = read_keys(request.POST.getlist(ACTION_CHECKBOX_NAME))
        data = request.POST.copy()
        data.setlist(ACTION_CHECKBOX_NAME, [str(key) for key in keys])
        request.POST = data
        return super().response_action(request, queryset)


class LongListAdmin(ReadOnlyAdmin):
    """A list of any number of rows, in the style of the web pages."""

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
        """Return the context of a page that confirms *change* to *rows*."""
        return {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "media": self.media,
            "change": change,
            "more": max(0, len(rows) - MAX_NAMED_ROWS),
            "confirmed": ",".join(str(row.pk) for row in rows),
        }


def confirmed_keys(request: HttpRequest) -> list[int] | None:
    """Return the keys of the rows that the user confirmed; None if nothing was confirmed yet.

    Rows that joined the list after the question was asked are not among them.
    """
    if "confirmed" not in request.POST:
        return None
    return read_keys([request.POST["confirmed"]])
