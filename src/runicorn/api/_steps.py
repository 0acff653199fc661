"""Calls as generators that know no network, so that each is written once for both clients.

A call yields what it needs (a :class:`Request` to be answered, a :class:`Pause`), gets the answer
sent back, and returns its result; a stream yields its results too, as :class:`Emit`. Whoever
drives it is blocking or asynchronous. See https://sans-io.readthedocs.io for the idea.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with (bytes done, bytes in total or None if that is not known)."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    params: dict[str, Any] | None = None
    json: Any = None
    form: dict[str, str] | None = None
    """Fields to send beside *upload*."""
    upload: Path | None = None
    """A file to send as the multipart field ``file``."""
    content: bytes | None = None
    """A body as it is, described by *headers*."""
    headers: dict[str, str] | None = None
    save_to: Path | None = None
    """The file to write the body of a good answer to; it is not kept in memory."""
    resume: bool = False
    """Keep what has arrived in *save_to*, and ask only for the rest."""
    progress: Progress | None = None
    timeout_s: float | None = None
    retries: int | None = None
    """Instead of the client's own number."""
    is_repeatable: bool | None = None
    """If it may be sent again although it may have arrived; None: unless it is a POST."""


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Work:
    """A computation, or work with local files, to be done where it blocks nothing else."""

    call: Callable[[], Any]


@dataclass(frozen=True)
class Emit(Generic[T]):
    value: T


Step: TypeAlias = Request | Pause | Work
Steps: TypeAlias = Generator[Step, Any, T]
Stream: TypeAlias = Generator[Step | Emit[T], Any, None]


class Blocking(Protocol):
    """Performs steps in the calling thread."""

    def perform(self, step: Step) -> Any: ...


class Awaiting(Protocol):
    """Performs steps in an event loop."""

    async def perform(self, step: Step) -> Any: ...


def run(steps: Steps[T], transport: Blocking) -> T:
    try:
        step = next(steps)
        while True:
            try:
                answer = transport.perform(step)
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def arun(steps: Steps[T], transport: Awaiting) -> T:
    try:
        step = next(steps)
        while True:
            try:
                answer = await transport.perform(step)
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result


def _next(stream: Stream[T], answer: Any) -> Steps[Emit[T] | None]:
    """The steps of *stream* up to its next result; None behind the last one."""
    try:
        step = stream.send(answer)
        while not isinstance(step, Emit):
            try:
                answer = yield step
            except Exception as error:
                step = stream.throw(error)
            else:
                step = stream.send(answer)
    except StopIteration:
        return None
    return step


# -- methods -----------------------------------------------------------------------------------
# ``method = blocking(call)`` in a class body. The class has a ``_transport``.


def blocking(call: Callable[Concatenate[Any, P], Steps[T]]) -> Callable[Concatenate[Any, P], T]:
    @functools.wraps(call)
    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(call(self, *args, **kwargs), self._transport)

    return method


def awaiting(
    call: Callable[Concatenate[Any, P], Steps[T]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    @functools.wraps(call)
    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await arun(call(self, *args, **kwargs), self._transport)

    return method


def iterating(
    call: Callable[Concatenate[Any, P], Stream[T]],
) -> Callable[Concatenate[Any, P], Iterator[T]]:
    @functools.wraps(call)
    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        stream = call(self, *args, **kwargs)
        while (emitted := run(_next(stream, None), self._transport)) is not None:
            yield emitted.value

    return method


def aiterating(
    call: Callable[Concatenate[Any, P], Stream[T]],
) -> Callable[Concatenate[Any, P], AsyncIterator[T]]:
    @functools.wraps(call)
    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        stream = call(self, *args, **kwargs)
        while (emitted := await arun(_next(stream, None), self._transport)) is not None:
            yield emitted.value

    return method
