"""Who may come in at a view: one class a right, asked of ``core.access``.

Every view names one of them in ``permission_classes``. What rows a request then works on is the
querysets' answer (``visible_to``, ``changeable_by``, ``purgeable_by``).
"""

from __future__ import annotations

from typing import ClassVar

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from ..access import Right, may


class _HasRight(BasePermission):
    right: ClassVar[Right]
    message = "You may not do this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return may(request.user, self.right)


class Public(BasePermission):
    """Everybody, known or not."""

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


class SeeOrChange(BasePermission):
    """Reading needs the right to see, every other method the right to change."""

    message = "You may not do this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        right = Right.SEE if request.method in ("GET", "HEAD", "OPTIONS") else Right.CHANGE
        return may(request.user, right)
