"""Permissions and the audit log, as ports that an app with user accounts can fill.

Apps ask here and import no app above them. By default the three ports answer for a server with a
single owner: the owner sees and does everything, and each action is a line in the log. An app that
knows user accounts replaces the answers (see ``runicorn_site.wiring``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import Any, Self, TypeVar

from django.db import models

logger = logging.getLogger("runicorn.audit")


class Right(Enum):
    SEE = "see"
    CHANGE = "change"
    """Change, delete to the recycle bin, restore."""

    PURGE = "purge"
    ADMINISTER = "administer"
    """Configure the server itself; a right to no rows."""


Rows = TypeVar("Rows", bound=models.QuerySet)
Model = TypeVar("Model", bound=models.Model, covariant=True)


def _all_rows(queryset: Any, user: Any, right: Right) -> Any:
    return queryset.all()


def _log(actor: Any, verb: str, object: Any) -> None:
    logger.info("%s: %s %s", name_of(actor) or "the owner", verb, object)


def _owner_may(user: Any, right: Right) -> bool:
    return right is not Right.ADMINISTER or bool(getattr(user, "is_superuser", False))


_rows: Callable[[Any, Any, Right], Any] = _all_rows
_record: Callable[[Any, str, Any], None] = _log
_may: Callable[[Any, Right], bool] = _owner_may


def answer_with(
    *,
    rows: Callable[[Any, Any, Right], Any] = _all_rows,
    record: Callable[[Any, str, Any], None] = _log,
    may: Callable[[Any, Right], bool] = _owner_may,
) -> None:
    """Replace the answers of the ports; without arguments, restore those of a single owner."""
    global _rows, _record, _may
    _rows, _record, _may = rows, record, may


def rows(queryset: Rows, user: Any, right: Right) -> Rows:
    """Return the rows of *queryset* to which *user* has *right*."""
    return _rows(queryset, user, right)


def record(actor: Any, verb: str, object: Any) -> None:
    """Record that *actor* (None: the owner of an embedded server) did *verb* to *object*.

    Verbs are ``<kind>.<verb>``: ``run.delete``, ``version.purge``. *object* is a model or a text
    that names the target; people read its ``str``.
    """
    _record(actor, verb, object)


def may(user: Any, right: Right) -> bool:
    """Return whether *user* has *right* to anything at all; ``rows`` says to what."""
    return _may(user, right)


def name_of(user: Any) -> str:
    """Return the name of *user*; empty for an anonymous one."""
    return user.get_username() if getattr(user, "is_authenticated", False) else ""


class AccessQuerySet(models.QuerySet[Model]):
    """Rows that people may have rights to."""

    def visible_to(self, user: Any) -> Self:
        """Return the rows that *user* may see."""
        return rows(self, user, Right.SEE)

    def changeable_by(self, user: Any) -> Self:
        """Return the rows that *user* may change, delete and restore."""
        return rows(self, user, Right.CHANGE)

    def purgeable_by(self, user: Any) -> Self:
        """Return the rows that *user* may remove for good."""
        return rows(self, user, Right.PURGE)
