"""Permissions of views: one class per right, answered by ``core.access``.

Every view names one of them in ``permission_classes``, and every page declares what it ``needs``.
The querysets then select the rows that a request may work on (``visible_to``, ``changeable_by``,
``purgeable_by``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from ..access import Right, may

if TYPE_CHECKING:  # which itself imports the default permissions, and so this module
    from rest_framework.views import APIView


class _HasRight(BasePermission):
    right: ClassVar[Right]
    message = "You may not do this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return may(request.user, self.right)


class Public(BasePermission):
    """Everybody may, signed in or not."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return True


class MaySee(_HasRight):
    right = Right.SEE


class MayChange(_HasRight):
    right = Right.CHANGE


class MayPurge(_HasRight):
    right = Right.PURGE


class MayAdminister(_HasRight):
    right = Right.ADMINISTER
    message = "Only the owner of this server may do this."


class SeeOrChange(_HasRight):
    """Reading needs the right to see, every other method the right to change."""

    right = Right.CHANGE

    def has_permission(self, request: Request, view: APIView) -> bool:
        is_reading = request.method in ("GET", "HEAD", "OPTIONS")
        return may(request.user, Right.SEE if is_reading else self.right)


class SeeOrAdminister(SeeOrChange):
    """Reading needs the right to see, every other method the right to administer."""

    right = Right.ADMINISTER
    message = MayAdminister.message


def needs(right: Right) -> Callable[[Callable[..., Any]], Any]:
    """Let only users with *right* open a page, whose attribute ``right`` records it."""

    def decorate(page: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(page)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if not may(request.user, right):
                raise PermissionDenied("You may not do this.")
            return page(request, *args, **kwargs)

        guarded.right = right  # type: ignore[attr-defined]
        return guarded

    return decorate
