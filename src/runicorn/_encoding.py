"""Decide what a value may be, for ``log``, ``summary``, ``config`` and artifact metadata alike.

| a value                                        | is recorded as                           |
|------------------------------------------------|------------------------------------------|
| text, bool, None, floats, integers of any size | itself; NaN and the infinities, too      |
| NumPy, torch, JAX and TensorFlow scalars       | a number; what is masked, null           |
| their arrays, pandas series                    | a list, in full; of one element, that    |
| ``Decimal``, ``Fraction``                      | a number                                 |
| lists, tuples and other sequences              | a list                                   |
| mappings, dataclasses, ``Namespace``, attrs,   | an object; its keys as text              |
| pydantic, OmegaConf, what has ``to_dict()``    |                                          |
| enum members                                   | their value                              |
| paths, dates and times, UUIDs                  | their text                               |
| anything else                                  | TypeError; in ``config`` its text, of a  |
|                                                | set a sorted list                        |
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import json
import os
import types
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import PurePath
from typing import Any

import orjson

OPTIONS = (
    orjson.OPT_APPEND_NEWLINE | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)
DEEPEST = 100
"""Objects and lists within each other; readers of JSON give up at some depth."""

dumps = orjson.dumps

_TEXTS = (PurePath, datetime.date, datetime.time, datetime.timedelta, uuid.UUID)
_NUMBERS = (decimal.Decimal, fractions.Fraction)
_LONGEST_INT = 2**4096
"""Python itself refuses to write integers of more than 4,300 digits as text."""


def encode(event: Mapping[str, Any]) -> bytes:
    """Return *event* as one line of JSON, newline included.

    orjson writes nearly all of them. It would make NaN and the infinities null, where Runicorn 0.4
    writes ``NaN`` and ``Infinity``, and refuses integers beyond 64 bits, keys that are no strings
    and lone surrogates: such lines are left to the standard library. Raises TypeError for what
    cannot be recorded, whatever stands beside it.
    """
    try:
        line = dumps(event, plain, OPTIONS)
        if b"null" not in line:
            return line
    except TypeError:
        pass
    return _text(_recorded(event, _refuse)).encode("utf-8", "ignore") + b"\n"


def plain(value: Any) -> Any:
    """Return what is recorded of *value*, which orjson does not know. Raises TypeError."""
    try:  # a scalar of NumPy or torch is what this is called for
        scalar = value.item()
        if type(scalar) in (float, int, bool) and not hasattr(value, "mask"):
            return scalar
    except Exception:
        pass
    return _recorded(value, _refuse)


def strict(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is recorded of the object *values*. Raises TypeError."""
    if not isinstance(values, Mapping):
        raise TypeError(f"An object of keys and values is needed, not {type(values).__name__}.")
    return json.loads(encode(values))  # type: ignore[no-any-return]


def metadata(values: Any) -> dict[str, Any]:
    """Return what is recorded of an artifact's metadata. Raises ValueError, as it always did."""
    try:
        recorded = _recorded(mapping(values), _refuse)
    except TypeError as error:
        raise ValueError(f"metadata cannot be written as JSON: {error}") from None
    return recorded  # type: ignore[no-any-return]


def lenient(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is recorded of the object *values*, where what JSON cannot hold is its text."""
    text = _text(_recorded(values, _as_text))
    return json.loads(text.encode("utf-8", "ignore"))  # type: ignore[no-any-return]


def mapping(source: Any) -> dict[Any, Any]:
    """Return the keys and values of a configuration, whatever a framework made it of.

    Beside the objects of the table: pairs, and the public attributes of any other object, class or
    module. Raises TypeError for what has none.
    """
    members = _members(source)
    if members is not None:
        return {key: _member(members, key, _as_text) for key in members}
    if not isinstance(source, str | bytes) and isinstance(source, Iterable):
        try:
            return dict(source)
        except (TypeError, ValueError):
            pass
    is_code = isinstance(source, type | types.ModuleType)  # its functions are no settings
    attributes = {
        name: value
        for name, value in _attributes(source)
        if not name.startswith("_") and not (is_code and _is_code(value))
    }
    if not attributes and not hasattr(source, "__dict__"):
        raise TypeError(
            f"config takes a mapping or an object with attributes, not {type(source).__name__}."
        )
    return attributes


def _is_code(value: Any) -> bool:
    return callable(value) or isinstance(
        value, staticmethod | classmethod | property | types.ModuleType
    )


def _attributes(source: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(source, type):
        for base in reversed(source.__mro__[:-1]):
            yield from vars(base).items()
        return
    for base in type(source).__mro__:
        for name in _slots(base):
            if hasattr(source, name):
                yield name, getattr(source, name)
    yield from getattr(source, "__dict__", {}).items()


def _slots(base: type) -> Sequence[str]:
    slots = vars(base).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


# -- one value ---------------------------------------------------------------------------------

_Fallback = Callable[[Any], Any]


def _recorded(value: Any, fallback: _Fallback, above: tuple[int, ...] = ()) -> Any:
    """Return what is recorded of *value*, which lies within the objects whose ids are *above*."""
    kind = type(value)
    if kind is str or kind is float or kind is bool or value is None:
        return value
    if isinstance(value, enum.Enum):
        return _recorded(value.value, fallback, above)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value) if abs(value) < _LONGEST_INT else fallback(value)
    if isinstance(value, float):
        return float(value)
    if len(above) >= DEEPEST or id(value) in above:
        return fallback(value)
    try:
        return _structure(value, fallback, (*above, id(value)))
    except _Refused:
        raise
    except Exception:  # an object that answers with an error when it is looked at
        return fallback(value)


def _structure(value: Any, fallback: _Fallback, above: tuple[int, ...]) -> Any:
    if isinstance(value, _TEXTS):
        return str(value)
    if isinstance(value, _NUMBERS):
        return float(value)
    members = _members(value)
    if members is not None:
        return {
            _key(key, fallback): _recorded(_member(members, key, fallback), fallback, above)
            for key in members
        }
    elements = _elements(value)
    if elements is None and fallback is _as_text and isinstance(value, Set):
        elements = sorted(value, key=lambda element: (str(type(element)), element))
    if elements is not None:
        return [_recorded(element, fallback, above) for element in elements]
    return _scalar(value, fallback, above)


def _members(value: Any) -> Mapping[Any, Any] | None:
    """Return the members of what is an object in JSON, not yet recorded; None for the rest."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    kind = type(value)
    if hasattr(kind, "model_fields") and hasattr(kind, "model_dump"):  # pydantic
        dumped: Mapping[Any, Any] = value.model_dump()
        return dumped
    if hasattr(kind, "tolist") or hasattr(kind, "numpy"):
        return None
    if hasattr(kind, "to_dict"):  # transformers, ml_collections: they leave their tokens out here
        try:
            members = value.to_dict()
        except Exception:
            members = None
        if isinstance(members, Mapping):
            return members
    names: Iterable[str] | None = None
    if hasattr(kind, "__dataclass_fields__"):
        import dataclasses

        names = [field.name for field in dataclasses.fields(value)]
    elif hasattr(kind, "__attrs_attrs__"):
        names = [field.name for field in kind.__attrs_attrs__]
    elif hasattr(kind, "__struct_fields__"):  # msgspec
        names = kind.__struct_fields__
    if names is not None:
        return {name: getattr(value, name) for name in names if hasattr(value, name)}
    if _is_namespace(value):
        namespace: dict[str, Any] = vars(value)
        return namespace
    return None


def _member(members: Mapping[Any, Any], key: Any, fallback: _Fallback) -> Any:
    try:
        return members[key]
    except Exception as error:  # OmegaConf: a value that is missing, or refers to none
        return fallback(error)


def _is_namespace(value: Any) -> bool:
    """Whether it is a ``SimpleNamespace``, or a ``Namespace`` of argparse or of one like it."""
    names = {kind.__name__ for kind in type(value).__mro__}
    return bool(names & {"Namespace", "SimpleNamespace"}) and hasattr(value, "__dict__")


def _elements(value: Any) -> Iterable[Any] | None:
    """Return the elements of what is a list in JSON; None for the rest."""
    if isinstance(value, Sequence) and not isinstance(
        value, bytes | bytearray | memoryview | range
    ):
        return value
    from collections import deque

    if isinstance(value, deque):
        return value
    return None


def _scalar(value: Any, fallback: _Fallback, above: tuple[int, ...]) -> Any:
    """Record an array, or a scalar of a library for arrays."""
    if isinstance(value, type | bytes | bytearray | memoryview | range):
        return fallback(value)
    if getattr(getattr(value, "dtype", None), "kind", "") in ("M", "m"):
        return value.astype(str).tolist()  # dates and times
    if hasattr(value, "numpy") and not hasattr(value, "tolist"):  # TensorFlow
        value = value.numpy()
    inner = value.tolist() if hasattr(value, "tolist") else value.item()
    while isinstance(inner, list) and len(inner) == 1 and _size(value) == 1:
        inner = inner[0]
    if type(inner) is type(value):  # a float that Python has no type for
        return float(inner)
    return _recorded(inner, fallback, above)


def _size(array: Any) -> Any:
    size = getattr(array, "size", None)
    return array.numel() if callable(size) else size  # torch has a method of that name


def _key(key: Any, fallback: _Fallback) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return str.__str__(key)
    key = _recorded(key, fallback)
    return key if isinstance(key, str) else json.dumps(key) if _is_scalar(key) else fallback(key)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float)


def _text(recorded: Any) -> str:
    return json.dumps(recorded, ensure_ascii=False, separators=(",", ":"))


# -- what JSON cannot hold ---------------------------------------------------------------------


class _Refused(TypeError):
    """Says which value it was."""


def _refuse(value: Any) -> Any:
    if isinstance(value, Mapping | list | tuple):
        raise _Refused(f"Nested more than {DEEPEST} levels deep: not JSON serializable")
    raise _Refused(f"Object of type {type(value).__name__} is not JSON serializable")


def _as_text(value: Any) -> str:
    try:
        return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    except Exception:
        return f"<{type(value).__name__}>"
