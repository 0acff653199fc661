"""httpx, blocking and asynchronous: performs the steps of a call, and nothing else."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import httpx
import orjson

from .._version import __version__
from ._steps import Pause, Progress, Request, Step, Work

READ_BYTES = 256 * 1024


class Transport:
    """One pool of connections to one server."""

    def __init__(self, base_url: str, timeout_s: float, token: str | None) -> None:
        self.base_url = base_url
        self.is_local = _is_this_machine(base_url)
        self.timeout_s = timeout_s
        self.options: dict[str, Any] = {
            "headers": {"User-Agent": f"runicorn/{__version__}"},
            "timeout": timeout_s,
            "follow_redirects": False,
            "trust_env": not self.is_local,  # no proxy can reach what we call so
        }
        if token:
            self.options["headers"]["Authorization"] = f"Bearer {token}"

    def arguments(self, request: Request, file: IO[bytes] | None) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "method": request.method,
            "url": f"{self.base_url}/{request.path.lstrip('/')}",
            "params": request.params,
            "timeout": request.timeout_s or self.timeout_s,
        }
        if request.headers:
            arguments["headers"] = dict(request.headers)
        if request.json is not None:
            arguments["content"] = orjson.dumps(request.json)
            arguments["headers"] = {"Content-Type": "application/json"}
        if request.content is not None:
            arguments["content"] = request.content
        if request.resume and (there := _size(request.save_to)):
            # of the bytes themselves: a part of something compressed is of no use
            rest = {"Range": f"bytes={there}-", "Accept-Encoding": "identity"}
            arguments["headers"] = {**(request.headers or {}), **rest}
        if file is not None:
            assert request.upload is not None
            arguments["files"] = {"file": (request.upload.name, file)}
            arguments["data"] = request.form
        return arguments


class BlockingTransport(Transport):
    def __init__(self, base_url: str, timeout_s: float, token: str | None) -> None:
        super().__init__(base_url, timeout_s, token)
        self.session = httpx.Client(**self.options)

    def perform(self, step: Step) -> Any:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if isinstance(step, Work):
            return step.call()
        with _opened(step) as file, self.session.stream(**self.arguments(step, file)) as response:
            if step.save_to is None or response.status_code >= 300:
                response.read()
            else:
                with _target(step, response) as target:
                    report = _reporter(step, response, target)
                    for data in response.iter_bytes(READ_BYTES):
                        target.write(data)
                        report(response)
        return response


class AwaitingTransport(Transport):
    def __init__(self, base_url: str, timeout_s: float, token: str | None) -> None:
        super().__init__(base_url, timeout_s, token)
        self.session = httpx.AsyncClient(**self.options)

    async def perform(self, step: Step) -> Any:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        if isinstance(step, Work):
            return await asyncio.to_thread(step.call)
        with _opened(step) as file:
            async with self._stream(self.arguments(step, file)) as response:
                if step.save_to is None or response.status_code >= 300:
                    await response.aread()
                else:
                    with _target(step, response) as target:
                        report = _reporter(step, response, target)
                        async for data in response.aiter_bytes(READ_BYTES):
                            target.write(data)
                            report(response)
        return response

    @asynccontextmanager
    async def _stream(self, arguments: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        async with self.session.stream(**arguments) as response:
            yield response


class _Upload:
    """A file that tells how much of it has been read."""

    def __init__(self, file: IO[bytes], size: int, progress: Progress) -> None:
        self._file, self._size, self._progress = file, size, progress

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._progress(self._file.tell(), self._size)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)


@contextmanager
def _opened(request: Request) -> Iterator[Any]:
    """The file to be sent; opened anew for each attempt, so that each begins at its start."""
    if request.upload is None:
        yield None
        return
    with request.upload.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        yield file if request.progress is None else _Upload(file, size, request.progress)


@contextmanager
def _target(request: Request, response: httpx.Response) -> Iterator[IO[bytes]]:
    """Open the file that the body goes to: at its end if the body is the rest of it."""
    assert request.save_to is not None
    if request.resume:
        with request.save_to.open("ab" if response.status_code == 206 else "wb") as file:
            yield file
    else:
        with _download(request.save_to) as file:
            yield file


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path else 0
    except FileNotFoundError:
        return 0


@contextmanager
def _download(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of *path* once it is complete, and leaves nothing otherwise."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def _reporter(request: Request, response: httpx.Response, target: IO[bytes]) -> Any:
    progress = request.progress
    if progress is None:
        return lambda response: None
    if request.resume:
        return lambda response: progress(target.tell(), None)
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    return lambda response: progress(response.num_bytes_downloaded, total)


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
