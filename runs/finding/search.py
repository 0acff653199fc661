"""Translate a question in the query language for runs from its tree into a condition.

Every condition becomes a condition on an indexed column or a membership in an indexed subquery.
User input reaches SQL only as parameters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any

from django.db.models import Model, Q

from core.http.exceptions import InvalidInput
from metrics.models import Series

from ..models import Param, SummaryValue, Tag, as_json
from ..querysets import RunQuerySet, contains
from .query import And, Comparison, Not, Or, QueryError, Question, Value, parse

STATISTICS = ("first", "last", "min", "max", "count", "best")
_BOUNDS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_FAR = 1e15
"""Greater than any count, and exact both as an integer and as a float."""


def apply_query(runs: RunQuerySet, text: str) -> RunQuerySet:
    """Return the runs that match the query *text*. Raises InvalidInput with the column."""
    if not text.strip():
        return runs
    try:
        return runs.matching_q(condition(parse(text)))
    except QueryError as error:
        message = str(error)
        raise InvalidInput(f"q: {message}", ["query", "q", error.column], error.message) from error


def condition(question: Question) -> Q:
    """Return *question* as a condition on runs. A comparison with a missing value is false."""
    if isinstance(question, Not):
        return ~condition(question.part)
    if isinstance(question, And | Or):
        combined = condition(question.parts[0])
        for part in question.parts[1:]:
            right = condition(part)
            combined = combined & right if isinstance(question, And) else combined | right
        return combined
    head, rest = question.path[0].lower(), question.path[1:]
    if head == "metrics":
        return _metric(question, rest)
    if head in ("config", "summary") and rest:
        return _leaf(Param if head == "config" else SummaryValue, question, ".".join(rest))
    if not rest and head in _FIELDS:
        column, compare = _FIELDS[head]
        return compare(question, column)
    field_names = ", ".join([*_FIELDS, "metrics.<key>.last", "config.<key>", "summary.<key>"])
    raise QueryError(
        f"There is no field “{'.'.join(question.path)}”: use {field_names}", question.column
    )


# -- kinds of fields -----------------------------------------------------------------------------


def _text(question: Comparison, column: str) -> Q:
    if question.operator == "null":
        return Q(**{f"{column}__isnull": True}) | Q(**{column: ""})
    values = [_plain(value) for value in question.values]
    if question.operator == "~":
        return contains(column, values[0])
    if question.operator in _BOUNDS:
        return Q(**{f"{column}__{_BOUNDS[question.operator]}": values[0]})
    return _equal(question, column, values)


def _number(question: Comparison, column: str) -> Q:
    return _ordered(question, column, _to_number)


def _count(question: Comparison, column: str) -> Q:
    """Compare a column of integers with numbers, which are limited to the range of counts."""
    if question.operator in ("null", "~"):
        return _number(question, column)
    numbers = [max(-_FAR, min(_to_number(value), _FAR)) for value in question.values]
    if question.operator in _BOUNDS:
        rounded = math.ceil if question.operator in ("<", ">=") else math.floor
        return Q(**{f"{column}__{_BOUNDS[question.operator]}": rounded(numbers[0])})
    whole = [int(number) for number in numbers if number.is_integer()]
    return _negated(question, Q(**{f"{column}__in": whole}))


def _duration(question: Comparison, column: str) -> Q:
    return _ordered(question, column, _to_seconds)


def _date(question: Comparison, column: str) -> Q:
    """Compare a column of Unix seconds."""
    return _when(question, column, float)


def _datetime(question: Comparison, column: str) -> Q:
    """Compare a column of datetimes."""
    return _when(question, column, _as_datetime)


def _when(question: Comparison, column: str, bound: Callable[[float], Any]) -> Q:
    """Compare dates, without a time whole days. *bound* converts seconds for the column."""
    if question.operator in ("null", "~"):
        return _number(question, column)
    matches = Q()
    for value in question.values:
        start = _to_timestamp(value)
        end = bound(start + 86_400) if _is_day(value) else None
        matches |= _within(question.operator, column, bound(start), end)
    return _negated(question, matches)


def _within(operator: str, column: str, start: Any, end: Any) -> Q:
    """Compare a column with the period from *start* to before *end*; None: the point *start*."""
    if end is None:
        return Q(**{f"{column}__{_BOUNDS.get(operator, 'exact')}": start})
    edges = {"<": ("lt", start), "<=": ("lt", end), ">": ("gte", end), ">=": ("gte", start)}
    if operator in edges:
        lookup, edge = edges[operator]
        return Q(**{f"{column}__{lookup}": edge})
    return Q(**{f"{column}__gte": start, f"{column}__lt": end})


def _tag(question: Comparison, column: str) -> Q:
    if question.operator == "null":
        return ~Q(pk__in=Tag.objects.values("run"))
    if question.operator in _BOUNDS:
        raise QueryError("Tags are not in an order: use =, !=, in or ~", question.column)
    tags = Tag.objects.filter(_text(_positive(question), "key"))
    return _negated(question, Q(pk__in=tags.values("run")))


def _metric(question: Comparison, path: tuple[str, ...]) -> Q:
    if len(path) < 2 or path[-1].lower() not in STATISTICS:
        raise QueryError(
            f"Say which value of the metric: metrics.<key>.<{'|'.join(STATISTICS)}>",
            question.column,
        )
    key, statistic = ".".join(path[:-1]), path[-1].lower()
    if statistic == "best":
        named = Q(best_metric_name=key)
        if question.operator == "null":
            return ~(named & Q(best_metric_value__isnull=False))
        return _negated(question, named & _number(_positive(question), "best_metric_value"))
    is_count = statistic == "count"
    column, compare = ("number_count", _count) if is_count else (f"{statistic}_value", _logged)
    series = Series.objects.filter(key=key)
    if question.operator == "null":
        return ~Q(pk__in=series.filter(number_count__gt=0).values("run"))
    matches = series.filter(compare(_positive(question), column))
    return _negated(question, Q(pk__in=matches.values("run")))


def _logged(question: Comparison, column: str) -> Q:
    """Compare a number that a series logged; ``nan``, ``inf`` and ``-inf`` are numbers, too."""
    if question.operator == "~":
        return _number(question, column)
    numbers = [_to_any_number(value) for value in question.values]
    if question.operator in _BOUNDS:
        if math.isnan(numbers[0]):
            raise QueryError("Nothing is below or above nan: use = or !=", question.column)
        return Q(**{f"{column}__{_BOUNDS[question.operator]}": numbers[0]})
    matches = Q(**{f"{column}__in": [number for number in numbers if not math.isnan(number)]})
    if any(map(math.isnan, numbers)):
        matches |= Q(**{f"{column}__isnull": True}, number_count__gt=0)
    return matches


def _leaf(model: type[Model], question: Comparison, key: str) -> Q:
    """Compare a value of ``config.json`` or ``summary.json``: a number, text, true or false."""
    leaves = model._default_manager.filter(key=key)
    if question.operator == "null":
        return ~Q(pk__in=leaves.exclude(value="null").values("run"))
    values = question.values
    if question.operator == "~":
        matches = _has_text(as_json(values[0].text)[1:-1])
    elif question.operator in _BOUNDS:
        matches = _number(question, "number")
    else:
        matches = Q()
        for value in values:
            number = None if value.quoted else _as_number(value.text)
            word = value.text.lower()
            if number is not None:
                matches |= Q(number=number)
            elif not value.quoted and word in ("true", "false"):
                matches |= Q(value=word)
            else:
                matches |= Q(value=as_json(value.text))
    return _negated(question, Q(pk__in=leaves.filter(matches).values("run")))


_CHARACTERS = r"^(?:[^\\]|\\[^u]|\\u[0-9a-f]{4})*?"
"""Any number of complete characters of a text in JSON."""


def _has_text(escaped: str) -> Q:
    """Find *escaped* in a JSON value, but not from the middle of an escape sequence."""
    is_plain = ~Q(value__contains="\\")
    return contains("value", escaped) & (
        is_plain | Q(value__iregex=_CHARACTERS + re.escape(escaped))
    )


_FIELDS: dict[str, tuple[str, Callable[[Comparison, str], Q]]] = {
    "id": ("run_id", _text),
    "project": ("project__name", _text),
    "experiment": ("name", _text),
    "name": ("name", _text),
    "status": ("status", _text),
    "host": ("hostname", _text),
    "notes": ("notes", _text),
    "description": ("notes", _text),
    "tag": ("", _tag),
    "tags": ("", _tag),
    "created": ("created_time", _date),
    "started": ("started_at", _datetime),
    "ended": ("ended_at", _datetime),
    "updated": ("updated_at", _datetime),
    "duration": ("duration", _duration),
    "best": ("best_metric_value", _number),
    "best_metric": ("best_metric_name", _text),
    "events": ("event_count", _count),
}

# -- comparing -----------------------------------------------------------------------------------


def _positive(question: Comparison) -> Comparison:
    """Return *question* with ``=`` for ``!=``, for a subquery that the caller then negates."""
    if question.operator != "!=":
        return question
    return Comparison(question.path, "=", question.values, question.column)


def _negated(question: Comparison, matches: Q) -> Q:
    return ~matches if question.operator == "!=" else matches


def _ordered(question: Comparison, column: str, convert: Callable[[Value], float]) -> Q:
    if question.operator == "null":
        return Q(**{f"{column}__isnull": True})
    if question.operator == "~":
        raise QueryError("~ looks into text: use =, !=, <, <=, >, >= or in", question.column)
    values = [convert(value) for value in question.values]
    if question.operator in _BOUNDS:
        return Q(**{f"{column}__{_BOUNDS[question.operator]}": values[0]})
    return _equal(question, column, values)


def _equal(question: Comparison, column: str, values: list) -> Q:
    if question.operator == "in":
        return Q(**{f"{column}__in": values})
    return _negated(question, Q(**{column: values[0]}))


# -- values --------------------------------------------------------------------------------------


def _plain(value: Value) -> str:
    if "\x00" in value.text:
        raise QueryError("No text has this character", value.column)
    return value.text


def _as_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _to_number(value: Value) -> float:
    number = _as_number(value.text)
    if number is None:
        raise QueryError(f"“{value.text}” is not a number", value.column)
    return number


def _to_any_number(value: Value) -> float:
    try:
        return float(value.text)
    except ValueError:
        return _to_number(value)


_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def _to_seconds(value: Value) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", value.text.strip().lower())
    if match is None or (match[2] or "s") not in _UNITS:
        raise QueryError(
            f"“{value.text}” is not a duration: write seconds, or 90s, 5m, 2h, 1d", value.column
        )
    return float(match[1]) * _UNITS[match[2] or "s"]


_LATEST = datetime.max.replace(microsecond=0, tzinfo=UTC).timestamp()


def _as_datetime(seconds: float) -> datetime:
    """Return *seconds* as a datetime, limited to the latest that exists."""
    return datetime.fromtimestamp(min(seconds, _LATEST), UTC)


def _is_day(value: Value) -> bool:
    return re.fullmatch(r"\d{4}-\d\d-\d\d", value.text) is not None


def _to_timestamp(value: Value) -> float:
    """Return the Unix seconds of a date or time in ISO 8601 (by default in UTC) or a number."""
    number = _as_number(value.text)
    try:
        if number is None:
            if _is_day(value):
                parsed = datetime.combine(date.fromisoformat(value.text), time(), UTC)
            else:
                parsed = datetime.fromisoformat(value.text)
                parsed = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
            number = parsed.timestamp()
        datetime.fromtimestamp(number, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise QueryError(
            f"“{value.text}” is not a date: write 2026-01-31 or 2026-01-31T12:00", value.column
        ) from error
    return number
