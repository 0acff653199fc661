"""Contents of artifacts on their way: only what the other side lacks, on from where it broke."""

from __future__ import annotations

import hashlib
import io
import platform
import shutil
import tarfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import orjson

from .._progress import Bar
from . import _requests as http
from ._calls import JSON
from ._steps import Progress, Request, Steps, Work
from .exceptions import BadRequestError, ConnectionError, NotFoundError, RunicornAPIError

if TYPE_CHECKING:
    from ..artifacts import Artifact
    from ..artifacts.chunking import Chunk

PART = 8 << 20
"""Bytes of a content, or of many small ones, in one request."""

_SMALL = 1 << 20
_SLOWEST = 50e6
"""Bytes a second at which a server surely checks what it was sent."""

_WORTH_IT = 0.95
_UPLOADS = "/api/artifact-uploads"


class Client(http.Settings, Protocol):
    is_local: bool


@dataclass
class _Source:
    path: str
    """In the artifact."""
    file: str
    size: int
    digest: str
    modified_at: float


class _Tally:
    """Adds up what has been sent or fetched."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total = progress, total
        self.done = 0

    def add(self, count: int) -> None:
        self.done += count
        self.show(0)

    def show(self, more: int) -> None:
        if self._progress:
            self._progress(self.done + more, self._total)


def shown(progress: Progress | bool | None, label: str) -> AbstractContextManager[Progress | None]:
    """*progress*, or a bar at the terminal for True."""
    return Bar(label) if progress is True else nullcontext(progress or None)


# -- uploading -----------------------------------------------------------------------------------


def upload(
    self: Client,
    artifact: Artifact,
    *,
    run_id: str = "",
    progress: Progress | bool | None = None,
    compress: bool | None = None,
    chunked: bool = False,
) -> Steps[JSON]:
    """Make *artifact* the next version on the server; the version as ``get_artifact`` gives it.

    The server first says which contents it lacks, and only those are sent. Interrupted, by
    whatever, the same call goes on where it was. *run_id*: the run that made it. *progress*: True
    for a bar, or a function of (bytes sent, bytes to send). *compress* with zstd what gets smaller
    by it; by default if the server is another machine. *chunked*: of large files send only what
    differs from those of the newest version. Both need ``runicorn[transfer]``.
    """
    sources = yield Work(partial(_read_sources, artifact))
    plan = _plan(artifact, sources, run_id)
    request = Request("POST", _UPLOADS, json=plan, is_repeatable=True)
    state = http.json_of((yield from http.send(self, request)))
    address = f"{_UPLOADS}/{state['upload_id']}"
    files = {source.digest: source for source in sources}
    sending = _Sending(self, address, files, _encoder(self, state, compress))
    missing = state["missing"]
    with shown(progress, f"Uploading {artifact.name}") as report:
        tally = sending.tally = _Tally(report, sum(entry["size"] for entry in missing))
        small = [e for e in missing if e["size"] <= _SMALL and not e["offset"]]
        yield from sending.pack([_whole(files[_hex(entry)]) for entry in small])
        for entry in missing:
            if entry in small:
                continue
            if chunked and _is_cut_alike(state, entry):
                yield from sending.chunks(files[_hex(entry)])
            else:
                tally.add(entry["offset"])
                yield from sending.content(files[_hex(entry)], entry["offset"])
    request = Request("POST", f"{address}/commit", is_repeatable=True)
    version = yield from http.expect_object(http.json_answer(self, request))
    artifact._attempt = ""  # the next one is another version
    return version


def _read_sources(artifact: Artifact) -> list[_Source]:
    def read(entry: tuple[str | Path, str]) -> _Source:
        file, path = entry
        with open(file, "rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            size = content.tell()
        return _Source(path, str(file), size, digest, Path(file).stat().st_mtime)

    with ThreadPoolExecutor(4) as threads:  # hashing needs no interpreter lock
        return list(threads.map(read, artifact._draft().files))


def _plan(artifact: Artifact, sources: list[_Source], run_id: str) -> JSON:
    draft = artifact._draft()
    plan: JSON = {
        "name": draft.name,
        "type": draft.type,
        "files": [
            {
                "path": source.path,
                "size": source.size,
                "digest": f"sha256:{source.digest}",
                "modified_at": source.modified_at,
            }
            for source in sources
        ],
        "references": [asdict(reference) for reference in draft.references],
        "description": draft.description,
        "metadata": draft.metadata,
        "tags": draft.tags,
        "created_by_run": run_id,
    }
    # The same from the same machine is the same upload, until it is committed.
    content = orjson.dumps(plan, default=str, option=orjson.OPT_SORT_KEYS)
    plan["key"] = hashlib.sha256(platform.node().encode() + content).hexdigest()
    artifact._attempt = artifact._attempt or uuid.uuid4().hex
    return {**plan, "attempt": artifact._attempt}


def _hex(entry: JSON) -> str:
    return str(entry["digest"]).removeprefix("sha256:")


def _is_cut_alike(state: JSON, entry: JSON) -> bool:
    from ..artifacts import chunking

    if not chunking.is_available():
        raise ImportError("Sending chunks needs: pip install 'runicorn[transfer]'")
    is_same = state.get("chunks", {}).get("average") == chunking.AVERAGE
    return bool(is_same and entry["size"] >= chunking.SMALLEST_FILE and not entry["offset"])


def _encoder(self: Client, state: JSON, compress: bool | None) -> Callable[[bytes], _Body]:
    if compress is False or (compress is None and self.is_local):
        return _plain
    if "zstd" not in state.get("encodings", []):
        return _plain
    try:
        from zstandard import ZstdCompressor
    except ImportError:
        if compress:
            raise ImportError("Compressing needs: pip install 'runicorn[transfer]'") from None
        return _plain

    def encode(data: bytes) -> _Body:
        smaller = ZstdCompressor(level=3).compress(data)
        if len(smaller) > _WORTH_IT * len(data):
            return _plain(data)
        return smaller, {**_plain(data)[1], "Content-Encoding": "zstd"}

    return encode


_Body = tuple[bytes, dict[str, str]]
_Content = tuple[str, int, Callable[[], bytes]]
"""A digest, so many bytes, and how to read them."""


def _plain(data: bytes) -> _Body:
    return data, {"Content-Type": "application/octet-stream"}


def _whole(source: _Source) -> _Content:
    return source.digest, source.size, partial(_read_at, source, 0, source.size)


def _read_at(source: _Source, offset: int, size: int) -> bytes:
    with open(source.file, "rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise RunicornAPIError(f"{source.file} was changed while it was sent; try again")
    return data


class _Sending:
    """The requests that bring the contents of one upload to the server."""

    tally: _Tally

    def __init__(
        self,
        client: Client,
        address: str,
        files: dict[str, _Source],
        encode: Callable[[bytes], _Body],
    ) -> None:
        self._client, self._address = client, address
        self._files, self._encode = files, encode

    def content(self, source: _Source, offset: int) -> Steps[None]:
        """One content in parts, from *offset* on; an empty part if all bytes are there, but the
        server was killed before it checked them."""
        is_complete = False
        while not is_complete:
            size = min(PART, source.size - offset)
            read = partial(_read_at, source, offset, size)
            body, headers = yield Work(partial(self._encoded, read))
            request = Request(
                "PUT",
                f"{self._address}/{source.digest}",
                {"offset": offset},
                content=body,
                headers=headers,
                timeout_s=self._patience(source.size),
            )
            try:
                answer = yield from http.json_answer(self._client, request)
            except RunicornAPIError as error:
                if error.status_code != 409:
                    raise
                answer = yield from self._reached(source)  # it had arrived, unheard
            is_complete = answer["complete"]
            reached = source.size if is_complete else answer["offset"]
            self.tally.add(reached - offset)
            offset = reached

    def _encoded(self, read: Callable[[], bytes]) -> _Body:
        return self._encode(read())

    def _patience(self, size: int) -> float:
        return self._client.timeout + size / _SLOWEST

    def _reached(self, source: _Source) -> Steps[JSON]:
        state = yield from http.get(self._client, self._address)
        for entry in state["missing"]:
            if _hex(entry) == source.digest:
                return {"offset": entry["offset"], "complete": False}
        return {"complete": True}

    def pack(self, contents: Iterable[_Content]) -> Steps[None]:
        """Small contents or chunks, many in a request."""
        for some in _batches(contents):
            body, headers = yield Work(partial(self._tar, some))
            request = Request("PUT", f"{self._address}/pack", content=body, headers=headers)
            yield from http.json_answer(self._client, request)
            self.tally.add(sum(size for _, size, _ in some))

    def _tar(self, contents: list[_Content]) -> _Body:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for digest, size, read in contents:
                info = tarfile.TarInfo(digest)
                info.size = size
                tar.addfile(info, io.BytesIO(read()))
        return self._encode(packed.getvalue())

    def chunks(self, source: _Source) -> Steps[None]:
        """One content of which the server has most."""
        recipe: list[Chunk] = yield Work(partial(_cut, source))
        known = yield from self._build(source, recipe)
        lacking = set(known["missing"])
        contents: dict[str, _Content] = {}
        offset = 0
        for chunk in recipe:
            if chunk.digest in lacking:
                read = partial(_read_at, source, offset, chunk.length)
                contents[chunk.digest] = (chunk.digest, chunk.length, read)
            offset += chunk.length
        self.tally.add(source.size - sum(size for _, size, _ in contents.values()))
        if lacking:
            yield from self.pack(contents.values())
            known = yield from self._build(source, recipe)
        if not known["complete"]:
            raise RunicornAPIError(f"{source.path} did not arrive whole; try again")

    def _build(self, source: _Source, recipe: list[Chunk]) -> Steps[JSON]:
        request = Request(
            "PUT",
            f"{self._address}/{source.digest}/chunks",
            json={"chunks": [list(chunk) for chunk in recipe]},
            timeout_s=self._patience(source.size * 3),
        )
        return (yield from http.expect_object(http.json_answer(self._client, request)))


def _cut(source: _Source) -> list[Chunk]:
    from ..artifacts.chunking import cut

    return list(cut(source.file))


def _batches(contents: Iterable[_Content]) -> Iterator[list[_Content]]:
    some: list[_Content] = []
    size = 0
    for content in contents:
        some.append(content)
        size += content[1] + tarfile.BLOCKSIZE
        if size >= PART:
            yield some
            some, size = [], 0
    if some:
        yield some


# -- downloading ---------------------------------------------------------------------------------


def download(
    self: Client,
    address: str,
    target: Path,
    progress: Progress | bool | None,
    compress: bool | None,
) -> Steps[None]:
    """The files that *address* lists, in the folder *target*."""
    listing = yield from http.get(self, address)
    target.mkdir(parents=True, exist_ok=True)
    with shown(progress, f"Downloading {listing['artifact']}") as report:
        tally = _Tally(report, sum(file["size"] for file in listing["files"]))
        for file in listing["files"]:
            to = target / file["path"]
            if not to.resolve().is_relative_to(target.resolve()):
                raise BadRequestError(f"Bad request: {file['path']!r} would leave {target}")
            if not (yield Work(partial(_is_complete, to, file["digest"]))):
                yield from _fetch(self, address, file, to, tally, compress)
            tally.add(file["size"])


def _fetch(
    self: Client, address: str, file: JSON, to: Path, tally: _Tally, compress: bool | None
) -> Steps[None]:
    """Bring one file; a part that came before stays beside it and is gone on with."""
    digest, size = file["digest"], file["size"]
    part = to.with_name(f".{to.name[:100]}.{_hex(file)[:16]}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    is_zstd_wanted = compress or (compress is None and not self.is_local)
    request = Request(
        "GET",
        f"{address}/{quote(file['path'])}",
        headers=None if is_zstd_wanted else {"Accept-Encoding": "identity"},
        save_to=part,
        resume=True,
        progress=lambda done, _: tally.show(done),
    )
    if not part.exists():
        part.touch()
    while (before := part.stat().st_size) < size or not size:
        try:
            yield from http.send(self, request)
            break
        except ConnectionError:
            if part.stat().st_size == before:
                raise
        except NotFoundError:  # an original server
            part.unlink()
            source = file.get("absolute_path")
            if not source or not Path(source).is_file():
                raise NotImplementedError("Download not yet implemented in API client") from None
            shutil.copy2(source, part)
            break
    if not (yield Work(partial(_is_complete, part, digest))):
        part.unlink()
        raise RunicornAPIError(f"{file['path']} did not arrive as it is described; try again")
    part.replace(to)


def _is_complete(file: Path, digest: str) -> bool:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == digest[len("sha256:") :]
    except FileNotFoundError:
        return False
