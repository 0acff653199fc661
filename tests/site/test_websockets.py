"""WebSocket handshakes on the wire, through a real server (``websockets.py``)."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response
from websockets.sync.client import ClientConnection, connect

from core.http.websockets import CONCURRENT
from tests.servers import Viewer, viewer, wait_until

RUN = "20260102_030405_0a1b2c"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """Serves one run that has no log: its streams stay open."""
    storage: Path = tmp_path_factory.mktemp("root")
    run = storage / "vision" / "base" / "runs" / RUN
    run.mkdir(parents=True)
    (run / "status.json").write_text('{"status": "finished"}')
    limits = {"default": {"max_requests": 1000}}
    with viewer(storage, rate_limits=limits, RUNICORN_TRUSTED_PROXIES="127.0.0.1") as started:
        yield started


def open_log(server: Viewer, run: str = RUN, *, host: str = "", **more: object) -> ClientConnection:
    address, port = server.url.removeprefix("http://").split(":")
    uri = f"ws://{host or address}:{port}/api/runs/{run}/logs/ws"
    connection = socket.create_connection((address, int(port)))
    return connect(uri, sock=connection, proxy=None, open_timeout=10, **more)


def refusal(server: Viewer, run: str = RUN, **more: object) -> Response:
    with pytest.raises(InvalidStatus) as refused, open_log(server, run, **more):
        pass
    return refused.value.response


def test_programs_and_own_pages_may(server: Viewer) -> None:
    for origin in (None, "http://localhost:5173", server.url):
        with open_log(server, "unknown", origin=origin) as stream:
            assert stream.recv(timeout=10) == "[error] run not found"


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_foreign_pages_may_not(server: Viewer, origin: str) -> None:
    response = refusal(server, origin=origin)
    assert response.status_code == 403
    assert json.loads(response.body or b"").keys() == {"detail"}


def test_nor_a_foreign_name_for_this_machine(server: Viewer) -> None:
    response = refusal(server, host="evil.example", origin="http://evil.example")
    assert response.status_code == 400
    assert json.loads(response.body or b"").keys() == {"detail"}


def test_an_address_without_a_consumer(server: Viewer) -> None:
    response = refusal(server, "a/b")
    assert (response.status_code, response.body) == (404, b'{"detail":"Not Found"}')


def test_one_stream_too_many_is_a_429(server: Viewer) -> None:
    with ExitStack() as streams:
        for _ in range(CONCURRENT - 1):
            streams.enter_context(open_log(server))
        with open_log(server):
            response = refusal(server)
            with open_log(server, additional_headers={"X-Forwarded-For": "203.0.113.9"}):
                pass  # somebody else is not concerned
        assert response.status_code == 429
        assert response.body == b'{"detail":"Rate limit exceeded","retry_after":1}'
        expected = {
            "Content-Type": "application/json",
            "Retry-After": "1",
            "X-RateLimit-Limit": "10",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": "1",
        }
        assert {name: response.headers[name] for name in expected} == expected
        wait_until(lambda: _opens(server), "the place is free again", 5)


def _opens(server: Viewer) -> bool:
    try:
        with open_log(server):
            return True
    except InvalidStatus:
        return False
