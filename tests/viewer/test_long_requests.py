"""Requests that are too long or malformed get an answer, in the shape of their door."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import pytest

import runicorn.api
from tests.runs.conftest import Root
from tests.servers import viewer


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = Root(tmp_path_factory.mktemp("long") / "root")
    root.path.mkdir()
    root.run()
    return root


@pytest.fixture(scope="module")
def server(root):
    with viewer(root.path) as server:
        yield server


def exchange(server, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send *request* whole, then read until the server hangs up."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(request)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, content = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, content


LONG = b"x" * 70_000
HUGE = b"x" * 8_000_000


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /api/export?run_ids=%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % LONG, 414),
        (b"GET /api/export?run_ids=%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % HUGE, 414),
        (b"POST /api/v2/%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % LONG, 414),
        (b"GET /?q=%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % LONG, 414),
        (b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n" % LONG, 431),
        (b"GET /api/health HTTP/1.1\r\n%s\r\n\r\n" % (b"X: %s\r\n" % LONG[:9000] * 9), 431),
        (b"GET /api/health HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /admin/ HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (HUGE, 414),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_request_that_cannot_be_read_is_answered(server, request_bytes, status):
    got, headers, content = exchange(server, request_bytes)
    assert got == status
    assert headers["connection"] == "close"
    if b" /api/" in request_bytes[:20]:
        assert json.loads(content)["detail"].endswith(".")
    else:
        assert headers["content-type"].startswith("text/html")
    assert server.health()["status"] == "ok"


def test_many_ids_fit_into_an_address(server, root, tmp_path):
    (run_id,) = (path.name for path in root.path.glob("p/e/runs/*"))
    with runicorn.api.connect(server.url) as client:
        assert client.download_runs(tmp_path / "runs.tar.gz", [run_id] * 1000)
    assert (tmp_path / "runs.tar.gz").stat().st_size > 0
