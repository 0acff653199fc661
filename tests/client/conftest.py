"""A live server with a few runs, and a stub that answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import runicorn as rn
from runicorn import api
from tests import servers


@dataclass
class Site:
    """A running server, and the ids of its runs, oldest first."""

    url: str
    storage: Path
    ids: list[str]


def make_runs(storage: Path) -> list[str]:
    """Two runs of vision/resnet, one of nlp/bert; the first made an artifact."""
    ids = []
    for project, name in (("vision", "resnet"), ("vision", "resnet"), ("nlp", "bert")):
        run = rn.Run(project, storage, name=name, capture_env=False, system_metrics=False)
        if not ids:
            weights = storage.parent / "weights.bin"
            weights.write_bytes(b"w" * 300_000)
            artifact = rn.Artifact("net", type="model")
            artifact.add_file(weights)
            run.log_artifact(artifact)
        for step in range(1, 6):
            run.log(loss=1 / step, accuracy=step / 10, note="text", step=step)
        run.log(loss=0.1, step=6)
        run.log_text("hello")
        run.log_text("done")
        run.finish()
        ids.append(run.id)
    return ids


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    storage = tmp_path_factory.mktemp("site") / "root"
    storage.mkdir()
    ids = make_runs(storage)
    with servers.viewer(storage) as viewer:
        yield Site(viewer.url, storage, ids)


@pytest.fixture
def client(site: Site) -> Iterator[api.RunicornClient]:
    with api.connect(site.url) as client:
        yield client


@dataclass
class Stub:
    """Answers each request with the next of ``answers`` (status, headers, body), then with the
    last one again. Health is always good."""

    url: str = ""
    answers: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    health: Any = field(default_factory=lambda: {"status": "ok", "version": "0.4.2a"})

    def say(self, *statuses: int, body: Any = None, **headers: str) -> None:
        """Answer with these in turn."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers = [(status, named, body or {"detail": "told"}) for status in statuses]


@pytest.fixture
def stub() -> Iterator[Stub]:
    state = Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            state.connections.add(self.client_address)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.endswith("/api/health"):
                status, headers, content = 200, {}, state.health
            else:
                state.requests.append((self.command, self.path, dict(self.headers), body))
                status, headers, content = state.answers[0]
                if len(state.answers) > 1:
                    state.answers.pop(0)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()
