"""What the admin's lists have in common: rows that nobody adds by hand, and questions first."""

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

SHOWN = 10
"""Rows that a confirmation names one by one."""


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows come from what was logged: nobody adds one by hand.

    Whoever uses it needs Django's permission for the table and the right to the rows, which the
    other doors ask for too.
    """

    def has_right(self, request: HttpRequest, right: Right, row: Any = None) -> bool:
        """Whether the user has *right* to *row*, or without one at all."""
        if row is None:
            return access.may(request.user, right)
        return self.having(request, self.model.objects.filter(pk=row.pk), right).exists()

    def having(self, request: HttpRequest, rows: QuerySet, right: Right) -> QuerySet:
        """Return those of *rows* to which the user has *right*."""
        return access.rows(rows, request.user, right)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) and self.has_right(request, Right.SEE, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self.has_right(
            request, Right.CHANGE, obj
        )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Deleting is moving to the recycle bin, which a restore takes back."""
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
        """Django looks for whatever was sent as a key, which databases refuse to do."""
        keys = read_keys(request.POST.getlist(ACTION_CHECKBOX_NAME))
        sent = request.POST.copy()
        sent.setlist(ACTION_CHECKBOX_NAME, [str(key) for key in keys])
        request.POST = sent
        return super().response_action(request, queryset)


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
    return read_keys([request.POST["confirmed"]])
