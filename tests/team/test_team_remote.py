"""SSH hosts on a team server: the worker holds the connections, all web processes answer alike."""

from __future__ import annotations

import getpass
import html
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests import servers
from tests.remote.conftest import RUN, make_run

from .test_team import DEPLOY, Team, _command, team

__all__ = ["team"]
pytestmark = [pytest.mark.servers, pytest.mark.slow]

PASSWORD = "a passphrase to be looked for everywhere"
NOT_KEPT = "first: no password outlives the server"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Sshd]:
    with servers.sshd(tmp_path_factory.mktemp("host")) as running:
        make_run(running.home / "storage")
        yield running


class Web:
    """One of the web processes, asked directly."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        host = {"Host": url.split("/")[2]}
        self.client = stack.enter_context(
            httpx.Client(base_url=url, trust_env=False, timeout=60, headers=host)
        )

    def get(self, path: str, status: int = 200, /, **query: Any) -> Any:
        return self._checked(self.client.get(f"/api{path}", params=query), status)

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        return self._checked(self.client.post(f"/api{path}", json=body), status)

    def _checked(self, answer: httpx.Response, status: int) -> Any:
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
def webs(team: Team) -> Iterator[list[Web]]:
    with ExitStack() as stack:
        yield [Web(url, stack) for url in team.web_processes]


def login_to(host: servers.Sshd) -> dict[str, Any]:
    """Key files of the server's machine are its owner's alone: the key is sent."""
    return {
        "host": "127.0.0.1",
        "port": host.port,
        "username": getpass.getuser(),
        "private_key": host.key.read_text(),
        "use_agent": False,
    }


def rows(team: Team, table: str) -> list[Any]:
    with psycopg.connect(team.env["RUNICORN_DATABASE_URL"]) as database:
        return database.execute(f"SELECT * FROM {table}").fetchall()  # type: ignore[arg-type]


def test_what_one_process_connects_another_uses(
    team: Team, host: servers.Sshd, webs: list[Web]
) -> None:
    first, second = webs
    key = first.post("/unified/connect", login_to(host), 409)["detail"]["host_key"]
    names = ("host", "port", "key_type", "public_key", "fingerprint_sha256")
    second.post("/remote/known-hosts/accept", {name: key[name] for name in names})
    identity = first.post("/unified/connect", login_to(host))["connection_id"]
    for web in webs:
        assert web.get("/unified/status")["connection_id"] == identity
        assert [i["name"] for i in web.get("/unified/listdir")["items"]] == ["storage"]
    assert second.post("/unified/connect", {**login_to(host), "private_key": "x"}, 400)

    body = {"mode": "mirror", "remote_root": "~/storage", "mirror_interval": 0.5}
    assert second.post("/unified/configure_mode", body)["ok"] is True
    servers.wait_until(lambda: (team.storage / RUN / "logs.txt").exists(), "is copied")
    for web in webs:
        (task,) = web.get("/ssh/mirror/list")["mirrors"]
        assert (task["alive"], task["status"]) == (True, "running")
        servers.wait_until(
            lambda web=web: any(one["id"] == Path(RUN).name for one in web.get("/runs")), "is seen"
        )
    # What is brought on demand comes for the reader of another process, too.
    first.post("/unified/deactivate_mode", {"mode": "mirror"})
    other = RUN.replace(RUN[-1], "f")
    make_run(host.home / "storage", other, log=b"from afar\n")
    smart = {"mode": "smart", "remote_root": "~/storage", "sync_interval_seconds": 1}
    first.post("/unified/configure_mode", smart)
    servers.wait_until(
        lambda: any(one["id"] == Path(other).name for one in second.get("/runs")), "is known"
    )
    assert not (team.storage / other / "events.jsonl").exists()
    second.get(f"/runs/{Path(other).name}/metrics_step")
    assert (team.storage / other / "events.jsonl").exists()
    first.post("/unified/deactivate_mode", {"mode": "smart"})
    first.post("/unified/configure_mode", body)
    assert rows(team, "remote_command") == []


def test_a_secret_passes_the_database_encrypted_and_is_gone_when_read(
    team: Team, webs: list[Web]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        login = {"host": "127.0.0.1", "port": silent.getsockname()[1], "username": "someone"}
        login |= {"password": PASSWORD, "use_agent": False}
        answers: list[Any] = []
        waiting = threading.Thread(
            target=lambda: answers.append(webs[0].post("/unified/connect", login, 408))
        )
        waiting.start()
        peer, _ = silent.accept()  # the worker has read it
        ((_, name, sealed, answer, _, taken_at),) = rows(team, "remote_command")
        assert (name, sealed, answer) == ("connect", "", None) and taken_at
        assert webs[1].get("/runs")  # nobody waits with it
        waiting.join()
        peer.close()
    assert "timed out" in answers[0]["detail"]
    assert rows(team, "remote_command") == []
    logs = team.storage.parent.glob("*.log")
    assert not [log for log in logs if PASSWORD in log.read_text(errors="replace")]


def test_a_page_of_one_process_asks_and_another_hears_the_answer(
    team: Team, webs: list[Web], host: servers.Sshd
) -> None:
    """The login waits in the worker for the host's key to be confirmed."""
    first, second = webs
    first.post(
        "/remote/known-hosts/remove",
        {"host": "127.0.0.1", "port": host.port, "key_type": "ssh-ed25519"},
    )
    login = login_to(host)
    form = {name: login[name] for name in ("host", "port", "username")}
    question = page(first, "connect", **form, password=PASSWORD)
    number = re.search(r'name="number" value="([^"]+)"', question)
    assert number and PASSWORD not in question
    assert "The host refused this login" in page(second, "trust", number=number[1])
    assert "This question is too old" in page(second, "trust", number=number[1])
    assert second.get("/remote/known-hosts/list")["entries"][0]["port"] == host.port


def page(web: Web, verb: str, **data: Any) -> str:
    shown = web.client.get("/remote").text
    token = re.search('name="csrfmiddlewaretoken" value="(.*?)"', shown)
    assert token
    form = {**data, "csrfmiddlewaretoken": token[1]}
    origin = {"Origin": str(web.client.base_url).split("/runicorn")[0]}
    answer = web.client.post(f"/remote/{verb}", data=form, headers=origin, follow_redirects=True)
    return html.unescape(answer.text)


def test_a_worker_that_ends_takes_its_sessions_along_and_says_so(
    team: Team, host: servers.Sshd, webs: list[Web], tmp_path: Path
) -> None:
    first, second = webs
    assert first.get("/unified/status")["connected"] is True
    assert team.worker
    team.worker.kill()
    team.worker.wait()
    servers.wait_until(lambda: not second.get("/unified/status")["connected"], "is seen", 20)
    away = first.client.post("/api/unified/connect", json=login_to(host))
    assert (away.status_code, away.headers["Retry-After"]) == (503, "5")
    assert "worker" in away.json()["detail"]
    assert first.client.get("/remote").status_code == 200
    for web in webs:
        (task,) = web.get("/ssh/mirror/list")["mirrors"]
        assert (task["alive"], task["status"]) == (False, "interrupted")
        assert [one["connected"] for one in web.get("/remote/sessions")["sessions"]] == [False]

    log = tmp_path / "worker.log"
    options: dict[str, Any] = {"cwd": servers.ROOT, "env": team.env}
    command = _command(DEPLOY / "runicorn-worker.service")
    with servers.process(command, log, log.exists, **options):
        servers.wait_until(
            lambda: first.client.get("/api/remote/known-hosts/list").is_success, "is back"
        )
        (task,) = second.get("/ssh/mirror/list")["mirrors"]
        assert task["status"] == "interrupted"
        assert NOT_KEPT in page(second, "retry-sync", id=task["id"])
        first.post("/unified/connect", login_to(host))
        assert NOT_KEPT not in page(second, "retry-sync", id=task["id"])
        (again,) = first.get("/ssh/mirror/list")["mirrors"]
        assert (again["status"], again["id"] != task["id"]) == ("running", True)
    assert first.get("/unified/status")["connected"] is False  # stopped in good order
