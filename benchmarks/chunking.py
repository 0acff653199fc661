"""What content-defined chunking saves and costs: bytes kept and sent, time to save and restore.

    python benchmarks/chunking.py [--mebibytes 1024]

Cases: a checkpoint of which 1 % changed in ten places, one of which 1 % of the numbers changed all
over, and a tar of a dataset into which a file was inserted. Each is saved after its first version:
as whole files (what Runicorn does), into a store of chunks (which it does not have, so it is done
here), and uploaded to a server on this machine, whole and with ``chunked=True``.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import random
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import table, viewer

import runicorn as rn
from runicorn import api
from runicorn.artifacts import ArtifactStorage
from runicorn.artifacts.chunking import cut
from runicorn.artifacts.folders import FILES

MEBIBYTE = 1 << 20


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def checkpoint(path: Path, mebibytes: int) -> None:
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(MEBIBYTE))


def change_regions(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        for place in range(10):
            file.seek(size * place // 10 + 12_345)
            file.write(os.urandom(size // 1000))


def change_everywhere(path: Path) -> None:
    size = path.stat().st_size
    chance = random.Random(0)
    with path.open("r+b") as file:
        for start in range(0, size, MEBIBYTE):
            block = bytearray(file.read(MEBIBYTE))
            for _ in range(len(block) // 400):
                at = chance.randrange(len(block) // 4) * 4
                block[at : at + 4] = chance.randbytes(4)
            file.seek(start)
            file.write(block)


def dataset(path: Path, mebibytes: int, *, inserted: bool) -> None:
    chance = random.Random(1)
    with tarfile.open(path, "w") as tar:
        for number in range(mebibytes * 10):
            content = chance.randbytes(100_000)
            if inserted and number == mebibytes * 5:
                _add(tar, "new", os.urandom(123_456))
            _add(tar, f"{number}.jpg", content)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


class ChunkStore:
    """What keeping chunks instead of files would be like."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written = 0

    def save(self, path: Path) -> list[str]:
        digest, names = hashlib.sha256(), []
        with path.open("rb") as file:
            for chunk in cut(path):
                data = file.read(chunk.length)
                digest.update(data)
                target = self.folder / chunk.digest[:2] / chunk.digest
                names.append(chunk.digest)
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(data)
                    self.written += len(data)
        return names

    def restore(self, names: list[str], target: Path) -> None:
        digest = hashlib.sha256()
        with target.open("wb") as file:
            for name in names:
                data = (self.folder / name[:2] / name).read_bytes()
                digest.update(data)
                file.write(data)


def measure(title: str, folder: Path, first: Path, second: Path) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    size = second.stat().st_size / MEBIBYTE

    root = folder / "whole"
    with rn.Run("p", root, capture_env=False, system_metrics=False) as run:
        run.log_artifact(rn.Artifact("a").add_file(first, "f"))
        took = seconds(lambda: run.log_artifact(rn.Artifact("a").add_file(second, "f")))
        used = run.use_artifact("a:v2")
        back = seconds(lambda: used.download(folder / "back"))
    rows.append((title, "whole files", f"{size:.0f}", f"{took:.2f}", f"{back:.2f}"))
    location = ArtifactStorage(root).find("a")
    stored = location.version(2) / FILES / "f"

    chunks = ChunkStore(folder / "chunks")
    chunks.save(first)
    chunks.written = 0
    names: list[str] = []
    took = seconds(lambda: names.extend(chunks.save(stored)))
    back = seconds(lambda: chunks.restore(names, folder / "restored"))
    kept = f"{chunks.written / MEBIBYTE:.1f}"
    rows.append((title, "store of chunks", kept, f"{took:.2f}", f"{back:.2f}"))

    for label, chunked in (("upload, whole", False), ("upload, chunked", True)):
        served = folder / f"served-{chunked}"
        served.mkdir()
        with viewer(served) as server, api.connect(server.url, timeout=120) as client:
            client.artifacts.upload(rn.Artifact("a").add_file(first, "f"))
            sent = 0

            def count(request: object) -> None:
                nonlocal sent
                sent += int(request.headers.get("Content-Length", 0))  # type: ignore[attr-defined]

            client.session.event_hooks["request"].append(count)
            artifact = rn.Artifact("a").add_file(second, "f")
            took = seconds(lambda a=artifact, c=chunked: client.artifacts.upload(a, chunked=c))
            rows.append((title, label, f"{sent / MEBIBYTE:.1f}", f"{took:.2f}", ""))
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=1024)
    size = parser.parse_args().mebibytes
    rows: list[tuple[object, ...]] = [("", "", "MiB kept or sent", "save, s", "restore, s")]
    with tempfile.TemporaryDirectory(prefix="bench-chunking-") as name:
        work, sources = Path(name) / "work", Path(name) / "sources"
        work.mkdir()
        sources.mkdir()
        first, second = sources / "first", sources / "second"
        checkpoint(first, size)
        for title, change in (("1 % in ten places", change_regions), ("1 % all over", None)):
            shutil.copy(first, second)
            (change or change_everywhere)(second)
            rows += measure(title, work, first, second)
        dataset(first, size, inserted=False)
        dataset(second, size, inserted=True)
        rows += measure("tar, a file inserted", work, first, second)
    table(rows)


if __name__ == "__main__":
    main()
