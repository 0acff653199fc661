"""Fields of requests, the same in bodies, query strings and forms: one for each kind of value.

Every door refuses here what a database or a client could not store: NUL, lone surrogates, integers
beyond 64 bits, numbers that are not finite.

A message that is given to a field as ``error_messages`` is a whole sentence, which the response
repeats unchanged; other messages follow the name of the field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, cast

from django.http import HttpRequest
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from .exceptions import InvalidInput
from .rest import json_object

SENTENCE = "sentence"
"""The code of an error whose message needs no name in front of it."""

NOT_A_FLAG = "Input should be a valid boolean, unable to interpret input"
NOT_AN_INTEGER = "Input should be a valid integer, unable to parse string as an integer"
TOO_LARGE = "Input should be a valid integer of at most 64 bits"
NOT_A_NUMBER = "Input should be a valid number"

_TRUE = {"true", "1", "yes", "on", "t", "y"}
_FALSE = {"false", "0", "no", "off", "f", "n"}
_INTEGER = re.compile(r"\s*[+-]?[0-9]+(_[0-9]+)*(\.0*)?\s*")


def read_flag(text: str) -> bool:
    """Return the boolean that a word stands for, as v0.4 reads addresses. Raises ValueError."""
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(NOT_A_FLAG)
    return word in _TRUE


def read_integer(text: str) -> int:
    """Return an integer as v0.4 reads it: signs, spaces, ``_`` and ``3.0`` are fine.

    Raises ValueError.
    """
    if not _INTEGER.fullmatch(text) or len(text) > 100:
        raise ValueError(NOT_AN_INTEGER)
    return fitting(int(text.strip().partition(".")[0]))


def fitting(number: int) -> int:
    """Return *number*. Raises ValueError if it does not fit into 64 bits."""
    if not -(2**63) <= number < 2**63:
        raise ValueError(TOO_LARGE)
    return number


def read_number(value: Any) -> float:
    """Return *value*, a number or the text of one. Raises ValueError if it is not finite."""
    is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
    try:
        number = float(value) if is_number else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(NOT_A_NUMBER)
    return number


def read_keys(texts: Iterable[str]) -> list[int]:
    """Return the primary keys in *texts*, each a list separated by commas; skip anything else."""
    keys = (key for text in texts for key in text.split(","))
    return [int(key) for key in keys if re.fullmatch(r"[0-9]{1,18}", key)]


def path_integer(text: str, name: str) -> int:
    """Return *text*, the part *name* of an address, as an integer. Raises InvalidInput."""
    try:
        return read_integer(text)
    except ValueError as error:
        raise InvalidInput(f"{name}: {error}", ["path", name], str(error)) from None


# -- fields --------------------------------------------------------------------------------------


class _Field(serializers.Field):
    whole_sentences: ClassVar[frozenset[str]] = frozenset()
    """The codes of errors whose default message is a whole sentence."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._sentences = self.whole_sentences | set(options.get("error_messages") or ())
        super().__init__(*args, **options)

    def fail(self, key: str, **values: Any) -> Any:
        message = self.error_messages[key].format(**values)
        raise ValidationError(message, code=SENTENCE if key in self._sentences else key)


class Flag(_Field, serializers.BooleanField):
    """True or false; in a query string or a form also as a word."""

    default_error_messages = {"invalid": NOT_A_FLAG, "null": NOT_A_FLAG}

    def to_internal_value(self, data: Any) -> bool:
        if isinstance(data, bool):
            return data
        try:
            if isinstance(data, str) and not isinstance(self.root, Body):
                return read_flag(data)
        except ValueError:
            pass
        return self.fail("invalid")


class Integer(_Field, serializers.IntegerField):
    default_error_messages = {
        "invalid": NOT_AN_INTEGER,
        "too_large": TOO_LARGE,
        "null": "Input should be a valid integer",
    }

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, float) and data.is_integer():
            data = int(data)
        if isinstance(data, int) and not isinstance(data, bool):
            try:
                return fitting(data)
            except ValueError:
                return self.fail("too_large")
        try:
            if isinstance(data, str):
                return read_integer(data)
        except ValueError as error:
            return self.fail("too_large" if str(error) == TOO_LARGE else "invalid")
        return self.fail("invalid")


class Number(_Field, serializers.FloatField):
    """A finite number."""

    default_error_messages = {"invalid": NOT_A_NUMBER, "null": NOT_A_NUMBER}

    def to_internal_value(self, data: Any) -> float:
        try:
            return read_number(data)
        except ValueError:
            return self.fail("invalid")


class Text(_Field, serializers.CharField):
    """A text, unchanged."""

    default_error_messages = {
        "nul": "Input should have no NUL character",
        "surrogate": "Input should have no halves of characters (lone surrogates)",
        "invalid": "Input should be a valid string",
        "null": "Input should be a valid string",
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False, **options})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            return self.fail("invalid")
        # Not a validator of the base class: subclasses turn the text into another type.
        if "\x00" in data:
            return self.fail("nul")
        if re.search("[\ud800-\udfff]", data):
            return self.fail("surrogate")
        return super().to_internal_value(data)


class OptionalText(Text):
    """A text that may be absent, null or empty."""

    def __init__(self, **options: Any) -> None:
        chosen = {"required": False, "allow_null": True, "allow_blank": True}
        super().__init__(**{**chosen, **options})


class Choice(_Field, serializers.ChoiceField):
    """One of some texts."""


class CommaSeparated(OptionalText):
    """Texts in a query string, separated by commas."""

    def to_internal_value(self, data: Any) -> list[str]:  # type: ignore[override]
        text = super().to_internal_value(data)
        return [name for item in text.split(",") if (name := item.strip())]


class TextList(_Field, serializers.ListField):
    """A list of texts in a body."""

    default_error_messages = {
        "not_a_list": "Input should be a valid list",
        "null": "Input should be a valid list",
        "too_many": "There are more than {most} items",
    }

    def __init__(self, *, most: int | None = None, **options: Any) -> None:
        self.most = most
        super().__init__(**{"child": Text(), **options})

    def to_internal_value(self, data: Any) -> list[str]:
        if isinstance(data, str) or not isinstance(data, list):
            self.fail("not_a_list", input_type=type(data).__name__)
        if self.most is not None and len(data) > self.most:
            self.fail("too_many", most=self.most)
        return super().to_internal_value(data)


class Checked(_Field, serializers.Field):
    """A value that *like* reads and a rule of the light package checks and converts."""

    def __init__(
        self, rule: Callable[[Any], Any], *, like: serializers.Field, **options: Any
    ) -> None:
        self.rule, self.like = rule, like
        super().__init__(**options)
        extend_schema_field(like)(cast(Any, self))

    def to_internal_value(self, data: Any) -> Any:
        try:
            return self.rule(self.like.run_validation(data))
        except ValueError as error:
            raise ValidationError(str(error), code=SENTENCE) from None

    def to_representation(self, value: Any) -> Any:
        return value


# -- requests ------------------------------------------------------------------------------------


class _Read(serializers.Serializer):
    location: ClassVar[str]
    """The part of the request that errors name as the location of the input."""

    @classmethod
    def check(cls, data: Any, **options: Any) -> dict[str, Any]:
        """Return *data* as the fields read it. Raises ValidationError that names its location."""
        parsed = cls(data=data, **options)
        try:
            parsed.is_valid(raise_exception=True)
        except ValidationError as error:
            error.location = cls.location  # type: ignore[attr-defined]
            raise
        return parsed.validated_data


class Query(_Read):
    """The parameters of a query string."""

    location = "query"

    @classmethod
    def read(cls, request: Request | HttpRequest) -> dict[str, Any]:
        return cls.check(request.GET.dict())


class Body(_Read):
    """A JSON object as the body of a request."""

    location = "body"

    @classmethod
    def read(cls, request: Request | HttpRequest) -> dict[str, Any]:
        return cls.check(json_object(request))


class Form(_Read):
    """A form, url-encoded or multipart, of texts and files."""

    location = "body"

    @classmethod
    def read(cls, request: Request | HttpRequest) -> dict[str, Any]:
        return cls.check({**request.POST.dict(), **request.FILES.dict()})
