"""A team server as ``deploy/`` describes it: PostgreSQL, Redis, two web processes, the worker and
nginx on a sub-path."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests import servers

pytestmark = [pytest.mark.servers, pytest.mark.slow]

DEPLOY = servers.ROOT / "deploy"
SUB_PATH = "/runicorn"

TRAINING = """
import sys
import runicorn as rn

with rn.init(project="vision", name="resnet") as run:
    for step in range(1, 4):
        run.log({"loss": 1 / step}, step=step)
    run.log_text("the first line")
    print(run.id, flush=True)
    for line in sys.stdin:
        run.log_text(line.rstrip())
"""


@dataclass
class Team:
    url: str
    web_processes: list[str]
    storage: Path
    env: dict[str, str]
    worker: subprocess.Popen[bytes] | None = None

    def client(self, address: str = "127.0.0.1", **options: Any) -> httpx.Client:
        """A client whose own address is *address*: all of 127.0.0.0/8 is this machine."""
        transport = httpx.HTTPTransport(local_address=address)
        return httpx.Client(base_url=self.url, transport=transport, trust_env=False, **options)

    def manage(self, *arguments: str, **env: str) -> None:
        command = [sys.executable, "manage.py", *arguments]
        subprocess.run(command, cwd=servers.ROOT, env=self.env | env, check=True)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    storage, config = folder / "storage", folder / "config"
    storage.mkdir()
    (config / "runicorn").mkdir(parents=True)
    # Only other addresses than 127.0.0.1 are limited: the fixture itself asks again and again.
    limits = config / "runicorn" / "rate_limits.json"
    limits.write_text('{"settings": {"whitelist_localhost": true}}')

    port, *web_ports = (servers.free_port() for _ in range(3))
    with ExitStack() as stack:
        env = servers.clean_environment() | _variables(DEPLOY / "runicorn.env")
        env |= {
            "RUNICORN_PUBLIC_URL": f"http://127.0.0.1:{port}{SUB_PATH}/",
            "RUNICORN_DIR": str(storage),
            "RUNICORN_SECRET_KEY_FILE": "",
            "RUNICORN_SECRET_KEY": "of some length, and different characters, as checks ask",
            "RUNICORN_DATABASE_URL": stack.enter_context(servers.postgres()),
            "RUNICORN_REDIS_URL": stack.enter_context(servers.redis()),
            "RUNICORN_ALLOW_REMOTE": "1",
            "XDG_CONFIG_HOME": str(config),
        }
        started = Team(
            url=f"http://127.0.0.1:{port}{SUB_PATH}",
            web_processes=[f"http://127.0.0.1:{web}{SUB_PATH}" for web in web_ports],
            storage=storage,
            env=env,
        )
        started.manage("check", "--deploy", "--database", "default", "--fail-level", "WARNING")
        started.manage("migrate", "--verbosity", "0")
        for web in web_ports:
            command = _command(DEPLOY / "runicorn-web@.service", str(web))
            options: dict[str, Any] = {"cwd": servers.ROOT, "env": env}
            log = folder / f"web-{web}.log"
            stack.enter_context(
                servers.process(command, log, lambda web=web: servers.accepts(web), **options)
            )
        log = folder / "worker.log"
        command = _command(DEPLOY / "runicorn-worker.service")
        started.worker = stack.enter_context(servers.process(command, log, log.exists, **options))
        stack.enter_context(servers.nginx(_nginx_config(port, web_ports), port))
        client = stack.enter_context(started.client())
        servers.wait_until(
            lambda: client.get("/api/health").json()["ingest"]["state"] == "watching", "watching"
        )
        yield started


def _variables(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE))


def _command(unit: Path, instance: str = "") -> list[str]:
    """What systemd would start, from this virtual environment."""
    line = re.search(r"^ExecStart=/opt/runicorn/.venv/bin/(.*)$", unit.read_text(), re.MULTILINE)
    assert line
    program, *arguments = line[1].replace("%i", instance).split()
    return [str(Path(sys.executable).with_name(program)), *arguments]


def _nginx_config(port: int, web_ports: list[int]) -> str:
    config = (DEPLOY / "nginx.conf").read_text()
    for example, ours in {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "127.0.0.1:23301;": f"127.0.0.1:{web_ports[0]};",
        "127.0.0.1:23302;": f"127.0.0.1:{web_ports[1]};",
    }.items():
        assert config.count(example) == 1
        config = config.replace(example, ours)
    return config


@dataclass
class Training:
    run_id: str
    stdin: IO[str]

    def log_text(self, line: str) -> None:
        self.stdin.write(line + "\n")
        self.stdin.flush()


@pytest.fixture(scope="module")
def training(team: Team) -> Iterator[Training]:
    """A script that logs a run into the shared folder, and goes on."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING],
        env=servers.clean_environment() | {"RUNICORN_DIR": str(team.storage)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    with process:
        started = Training(process.stdout.readline().strip(), process.stdin)
        with team.client() as client:
            address = f"/api/runs/{started.run_id}"
            servers.wait_until(lambda: client.get(address).status_code == 200, "the run is there")
        yield started
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def test_a_run_is_served_through_the_proxy(team: Team, training: Training) -> None:
    with team.client() as client:
        [listed] = client.get("/api/runs").json()
        assert (listed["id"], listed["status"]) == (training.run_id, "running")
        table = client.get(f"/api/runs/{training.run_id}/metrics_step").json()
    assert [row["loss"] for row in table["rows"]] == [1, 1 / 2, 1 / 3]


def test_words_are_looked_for_in_the_database(team: Team, training: Training) -> None:
    def found(words: str) -> list[str]:
        with team.client() as client:
            answer = client.get("/api/v2/experiments", params={"search": words}).json()
        return [run["id"] for run in answer["experiments"]]

    assert found("RESnet isio") == [training.run_id]
    assert found('"resnet vision"') == found('"vision resnet"') == found("resnet_") == []


def test_a_logged_line_reaches_the_clients_of_every_process(team: Team, training: Training) -> None:
    address = f"/api/runs/{training.run_id}/logs/ws"
    with ExitStack() as stack:
        followers = [
            stack.enter_context(connect(url.replace("http", "ws", 1) + address, proxy=None))
            for url in (team.url, *team.web_processes)
        ]
        for follower in followers:
            assert _next_line(follower) == "the first line"
        started = time.monotonic()
        training.log_text("said while you were listening")
        for follower in followers:
            assert _next_line(follower) == "said while you were listening"
    assert time.monotonic() - started < 1


def _next_line(follower: ClientConnection) -> str:
    line = follower.recv(timeout=10)
    assert isinstance(line, str)
    return line.split(" | ", 1)[1]


def test_a_deleted_run_is_gone_and_comes_back(team: Team, training: Training) -> None:
    body = {"run_ids": [training.run_id]}
    page = {"Origin": team.url.removesuffix(SUB_PATH)}  # as our own page sends it
    with team.client(headers=page) as client:
        assert client.post("/api/runs/soft-delete", json=body).json()["deleted_count"] == 1
        assert client.get("/api/runs").json() == []
        assert client.post("/api/recycle-bin/restore", json=body).json()["restored_count"] == 1
        assert len(client.get("/api/runs").json()) == 1


def test_pages_of_other_sites_and_other_hosts_are_refused(team: Team) -> None:
    with team.client() as client:
        foreign = {"Origin": "https://elsewhere.example"}
        assert client.post("/api/status/check", headers=foreign).status_code == 403
        assert client.get("/api/runs", headers={"Host": "elsewhere.example"}).status_code == 400


def test_the_admin_asks_for_a_password_and_stays_below_the_sub_path(team: Team) -> None:
    team.manage(
        *("createsuperuser", "--noinput", "--username", "ada", "--email", "ada@example.org"),
        DJANGO_SUPERUSER_PASSWORD="correct horse",
    )
    with team.client(follow_redirects=True) as client:
        login = client.get("/admin/")
        assert login.url.path == f"{SUB_PATH}/admin/login/"
        links = re.findall(r'(?:href|src|action)="(/[^"]*)"', login.text)
        assert links
        assert all(link.startswith(f"{SUB_PATH}/") for link in links), links
        for link in links:
            if "/static/" in link:
                assert client.get(link.removeprefix(SUB_PATH)).status_code == 200
        [token] = re.findall('name="csrfmiddlewaretoken" value="(.*?)"', login.text)
        form = {"csrfmiddlewaretoken": token, "username": "ada", "password": "correct horse"}
        entered = client.post(str(login.url), data=form | {"next": f"{SUB_PATH}/admin/"})
        assert entered.status_code == 200
        assert entered.url.path == f"{SUB_PATH}/admin/"
        assert {cookie.path for cookie in client.cookies.jar} == {f"{SUB_PATH}/"}


def test_only_who_began_an_upload_goes_on_with_it(team: Team) -> None:
    content = b"of grace"
    digest = hashlib.sha256(content).hexdigest()
    plan = {"name": "shared", "files": [{"path": "a", "size": len(content), "digest": digest}]}
    plan["key"] = "the same for everybody"
    with ExitStack() as stack:
        grace, alan, nobody = (
            stack.enter_context(team.client(headers=_own_page(team))) for _ in range(3)
        )
        _log_in(team, grace, "grace")
        _log_in(team, alan, "alan")
        begun = grace.post("/api/artifact-uploads", json=plan).json()["upload_id"]
        place = f"/api/artifact-uploads/{begun}"
        for other in (alan, nobody):
            assert other.post("/api/artifact-uploads", json=plan).json()["upload_id"] != begun
            for method, path in (
                ("GET", place),
                ("DELETE", place),
                ("PUT", f"{place}/{digest}"),
                ("PUT", f"{place}/pack"),
                ("POST", f"{place}/commit"),
            ):
                answer = other.request(method, path, content=content)
                assert (answer.status_code, "Upload not found" in answer.text) == (404, True)
        assert grace.post("/api/artifact-uploads", json=plan).json()["upload_id"] == begun
        assert grace.put(f"{place}/{digest}", content=content).json()["complete"] is True
        assert alan.post(f"{place}/commit").status_code == 404
        assert grace.post(f"{place}/commit").json()["created_by_user"] == "grace"
        assert alan.post(f"{place}/commit").status_code == 404
        assert grace.post(f"{place}/commit").json()["version"] == 1


def _own_page(team: Team) -> dict[str, str]:
    return {"Origin": team.url.removesuffix(SUB_PATH)}


def _log_in(team: Team, client: httpx.Client, name: str) -> None:
    team.manage(
        *("createsuperuser", "--noinput", "--username", name, "--email", f"{name}@example.org"),
        DJANGO_SUPERUSER_PASSWORD="correct horse",
    )
    [token] = re.findall(
        'name="csrfmiddlewaretoken" value="(.*?)"', client.get("/admin/login/").text
    )
    form = {"csrfmiddlewaretoken": token, "username": name, "password": "correct horse"}
    assert client.post("/admin/login/", data=form).status_code == 302


def test_the_first_page_is_served(team: Team, training: Training) -> None:
    with team.client(follow_redirects=True) as client:
        page = client.get("/")
        assert page.status_code == 200
        assert training.run_id in page.text
        assert httpx.get(team.url, trust_env=False).headers["Location"].endswith(f"{SUB_PATH}/")


def test_requests_are_counted_per_client_over_all_processes(team: Team) -> None:
    """The client is who connects to the proxy, whatever it says of itself."""
    remaining = []
    for number in range(6):
        with team.client(
            "127.0.0.77", headers={"X-Forwarded-For": f"203.0.113.{number}"}
        ) as client:
            response = client.get("/api/recycle-bin")
        assert response.headers["X-RateLimit-Limit"] == "60"
        remaining.append(int(response.headers["X-RateLimit-Remaining"]))
    assert remaining == [59, 58, 57, 56, 55, 54]
    with team.client("127.0.0.78") as other:
        assert other.get("/api/recycle-bin").headers["X-RateLimit-Remaining"] == "59"


def test_too_many_requests_are_refused(team: Team) -> None:
    with team.client("127.0.0.79") as client:
        answers = [client.post("/api/recycle-bin/empty", json={}).status_code for _ in range(6)]
        refused = client.post("/api/recycle-bin/empty", json={})
    assert answers == [400] * 5 + [429]
    assert refused.json()["retry_after"] == int(refused.headers["Retry-After"])


def test_a_second_worker_waits_in_reserve_and_stops_when_told(team: Team, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    command = _command(DEPLOY / "runicorn-worker.service")
    started = time.monotonic()
    options: dict[str, Any] = {"cwd": servers.ROOT, "env": team.env}
    with servers.process(command, log, lambda: time.monotonic() > started + 4, **options) as second:
        pass
    assert second.returncode == 0
    assert log.read_text() == ""
