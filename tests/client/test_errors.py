"""What fails, how it is named, and what is tried again."""

from __future__ import annotations

import builtins
import time
from typing import Any

import pytest

from runicorn import api
from runicorn.api import _requests, _transport
from tests import servers


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Instead of waiting, note for how long."""
    noted: list[float] = []
    monkeypatch.setattr(_transport.time, "sleep", noted.append)
    return noted


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (400, api.BadRequestError, "Bad request: "),
        (422, api.BadRequestError, "Bad request: "),
        (401, api.AuthenticationError, "401"),
        (403, api.AuthenticationError, "403"),
        (404, api.NotFoundError, "Resource not found: /api/x"),
        (405, api.ConnectionError, "Request failed: 405"),
        (409, api.RunicornAPIError, "409"),
        (501, api.ServerError, "Server error: "),
    ],
)
def test_a_status_becomes_its_error(stub, status: int, error: Any, message: str) -> None:
    stub.say(status)
    with api.connect(stub.url) as client, pytest.raises(error, match=message) as raised:
        client.get("/api/x")
    assert type(raised.value) is error
    assert (raised.value.status_code, raised.value.detail) == (status, "told")
    assert isinstance(raised.value, api.RunicornAPIError)
    assert len(stub.requests) == 1


def test_the_clients_connection_error_is_also_the_builtin_one() -> None:
    with pytest.raises(builtins.ConnectionError, match="Failed to connect to Runicorn Viewer at"):
        api.connect(f"http://127.0.0.1:{servers.free_port()}")


@pytest.mark.parametrize("health", [{"status": "bad"}, b"<html>", {}])
def test_who_is_no_healthy_server_is_refused(stub, health: Any) -> None:
    stub.health = health
    with pytest.raises(api.ConnectionError, match="Failed to connect"):
        api.connect(stub.url)
    stub.health = {"status": "healthy"}
    api.connect(stub.url).close()


@pytest.mark.parametrize("method", ["get", "put", "delete"])
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_what_may_be_repeated_is(stub, waits: list[float], method: str, status: int) -> None:
    stub.say(status, status, 200)
    with api.connect(stub.url) as client:
        assert getattr(client, method)("/api/x") == {"detail": "told"}
    assert waits == [0.5, 1]


def test_the_last_answer_is_told_when_all_attempts_failed(stub, waits: list[float]) -> None:
    stub.say(503)
    with api.connect(stub.url, max_retries=5) as client, pytest.raises(api.ServerError):
        client.get("/api/x")
    assert waits == [0.5, 1, 2, 4, 8]
    assert len(stub.requests) == 6


def test_a_post_that_may_have_arrived_is_not_repeated(stub, waits: list[float]) -> None:
    stub.say(503, 200)
    with api.connect(stub.url) as client, pytest.raises(api.ServerError):
        client.post("/api/x", {"a": 1})
    assert (len(stub.requests), waits) == (1, [])


@pytest.mark.parametrize("method", ["get", "post"])
def test_too_many_requests_are_repeated_when_the_server_says_so(stub, waits, method) -> None:
    stub.say(429, 200, Retry_After="7")
    with api.connect(stub.url) as client:
        getattr(client, method)("/api/x")
    assert waits == [7]


def test_retry_after_may_be_a_date(stub, waits: list[float]) -> None:
    when = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    stub.say(503, 200, Retry_After=when)
    with api.connect(stub.url) as client:
        client.get("/api/x")
    assert 25 < waits[0] <= 30


def test_nobody_waits_for_hours(stub, waits: list[float]) -> None:
    stub.say(429, Retry_After=str(int(_requests.LONGEST_WAIT_S) + 1))
    with api.connect(stub.url) as client, pytest.raises(api.RateLimitError, match="429") as raised:
        client.get("/api/x")
    assert raised.value.retry_after == _requests.LONGEST_WAIT_S + 1
    assert isinstance(raised.value, api.ConnectionError)
    assert waits == []


def test_one_connection_serves_many_calls(stub) -> None:
    stub.say(200)
    with api.connect(stub.url) as client:
        for _ in range(10):
            client.get("/api/x")
    assert len(stub.connections) == 1


def test_a_prefix_and_a_token_are_sent(stub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.say(200)
    with api.connect(f"{stub.url}/team/", token="secret") as client:
        client.get("/api/x", {"a": "ü /", "none": None})
    monkeypatch.setenv("RUNICORN_TOKEN", "other")
    with api.connect(stub.url) as client:
        client.get("api/x")
    [(_, first, headers, _), (_, second, others, _)] = stub.requests
    assert (first, headers["Authorization"]) == ("/team/api/x?a=%C3%BC+%2F", "Bearer secret")
    assert (second, others["Authorization"]) == ("/api/x", "Bearer other")


def test_a_name_cannot_lead_to_another_route(stub) -> None:
    stub.say(404)
    with api.connect(stub.url) as client, pytest.raises(api.NotFoundError):
        client.get_experiment("../config?x#y")
    assert stub.requests[0][1] == "/api/runs/..%2Fconfig%3Fx%23y"


def test_an_answer_that_is_no_json_is_explained(stub) -> None:
    stub.say(200, body=b"<html>a proxy's page</html>")
    with api.connect(stub.url) as client, pytest.raises(api.ConnectionError, match="with JSON"):
        client.list_experiments()


def test_a_host_of_two_connections_must_be_said_in_full(stub):
    stub.say(
        200,
        body={
            "sessions": [
                {"key": f"{name}@h:22", "host": "h", "port": 22, "username": name}
                for name in ("ada", "bob")
            ]
        },
    )
    with api.connect(stub.url) as client:
        for call in (client.remote.disconnect, client.remote.check_remote_path):
            with pytest.raises(api.BadRequestError, match="say which: ada@h:22, bob@h:22"):
                call("h", **({} if call == client.remote.disconnect else {"path": "~"}))
