"""As ``dying``, but the server's share of an upload: its requests, answered in a process that is
killed before its n-th change of the disk or of the index. Reads ``action step artifact``."""

from __future__ import annotations

import hashlib
import io
import tarfile
from contextlib import ExitStack
from typing import Any

import django

import runicorn._django  # noqa: F401  (it puts the project on the path)

django.setup()

from django.db import connection, connections  # noqa: E402
from django.test import Client  # noqa: E402
from dying import Steps, serve  # noqa: E402

from operation.storage_root import prepare_databases  # noqa: E402


def ask(method: str, path: str, content: Any = None, kind: str = "application/json") -> Any:
    client = Client(headers={"host": "127.0.0.1"})
    given = () if content is None else (content, kind)
    answer = getattr(client, method)(f"/api/{path}", *given)
    assert answer.status_code < 300, (path, answer.status_code, answer.content)
    return answer.json()


def contents(name: str) -> dict[str, bytes]:
    return {"large": name.encode() * 1000, "small": b"small", "own": name.encode()}


def upload(name: str) -> None:
    """As a client that lives does, and one that asks again: the same key and attempt."""
    files = {path: (hashlib.sha256(c).hexdigest(), c) for path, c in contents(name).items()}
    listed = [{"path": p, "digest": d, "size": len(c)} for p, (d, c) in files.items()]
    plan = {"name": name, "files": listed, "key": name, "attempt": name}
    begun = ask("post", "artifact-uploads", plan)
    address = f"artifact-uploads/{begun['upload_id']}"
    missing = {each["digest"].removeprefix("sha256:"): each["offset"] for each in begun["missing"]}
    pack = io.BytesIO()
    with tarfile.open(fileobj=pack, mode="w") as tar:
        for path, (digest, content) in files.items():
            if digest in missing and path == "large":
                offset, is_complete = missing[digest], False
                while not is_complete:  # an empty part, if it was killed before it had checked all
                    part = content[offset : offset + 2000]
                    there = f"{address}/{digest}?offset={offset}"
                    is_complete = ask("put", there, part, "application/octet-stream")["complete"]
                    offset += len(part)
            elif digest in missing:
                member = tarfile.TarInfo(digest)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    if missing:
        ask("put", f"{address}/pack", pack.getvalue(), "application/x-tar")
    ask("post", f"{address}/commit")


def look(name: str) -> None:
    """Its one version is in the index with its files."""
    assert [v["version"] for v in ask("get", f"artifacts/{name}/versions")] == [1]
    files = ask("get", f"artifacts/{name}/v1/files")
    assert {f["path"]: f["size"] for f in files["files"]} == {
        path: len(content) for path, content in contents(name).items()
    }


def gc(_: str) -> None:
    ask("post", "artifacts/gc")


def act(action: str, name: str, steps: Steps | None) -> None:
    with ExitStack() as stack:
        if steps:

            def count(execute: Any, sql: str, *rest: Any) -> Any:
                if not sql.startswith("SELECT"):
                    steps.count()
                return execute(sql, *rest)

            stack.enter_context(connection.execute_wrapper(count))
        {"upload": upload, "look": look, "gc": gc}[action](name)


if __name__ == "__main__":
    prepare_databases()
    connections.close_all()
    ask("get", "health")  # what is loaded by a first request is not among the steps
    connections.close_all()
    serve(act)
