"""Real servers for tests, each on a free loopback port with its files in a temporary folder.

Context managers; a missing program skips the test (see ``conftest.py`` for where it must not).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(is_ready: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_ready():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def process(
    command: Sequence[str | Path], log: Path, is_ready: Callable[[], bool], **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A running program, ready to be used; its output goes to *log*, shown if it fails."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options
        )
    try:
        wait_until(lambda: running.poll() is not None or is_ready(), f"{command[0]} is ready")
        assert running.poll() is None, f"{command[0]} ended at once"
        yield running
    except BaseException:
        print(f"--- {log.name}\n{log.read_text(errors='replace')[-8000:]}")
        raise
    finally:
        running.terminate()
        try:
            running.wait(timeout=15)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextmanager
def postgres() -> Iterator[str]:
    """A fresh PostgreSQL cluster; its connection string for an empty database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (programs[-1] if programs else None)
    if initdb is None:
        pytest.skip("PostgreSQL is not installed")
    # It refuses to run as root. Its folder must be reachable for whom it runs as instead.
    as_user: dict[str, Any] = {"cwd": "/"}
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:
        as_user |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres", "postgres")
    port = free_port()
    data, server = folder / "data", Path(initdb).with_name("postgres")
    options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    options += ["-c", "fsync=off", "-c", "max_connections=200"]
    try:
        subprocess.run(
            [initdb, "-D", data, "-U", "runicorn", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            **as_user,
        )
        command = [server, "-D", data, "-p", str(port), *options]
        with process(command, folder / "log", lambda: _takes_queries(port), **as_user):
            yield f"postgresql://runicorn@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _takes_queries(port: int) -> bool:
    import psycopg

    try:
        psycopg.connect(host="127.0.0.1", port=port, user="runicorn", dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def redis() -> Iterator[str]:
    """A fresh Redis that keeps nothing; its URL."""
    program = shutil.which("redis-server") or pytest.skip("Redis is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        with process([*command, "--dir", folder], Path(folder, "log"), lambda: accepts(port)):
            yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def nginx(config: str, port: int) -> Iterator[None]:
    """nginx with *config* in its http block; it listens on *port*."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # its workers run as somebody else where it is started as root
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        main = folder / "nginx.conf"
        main.write_text(
            f"daemon off; pid {folder}/pid; error_log stderr;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{config}\n}}\n"
        )
        command = [program, "-c", main, "-p", folder, "-e", "stderr"]
        with process(command, folder / "log", lambda: accepts(port)):
            yield


@dataclass
class Sshd:
    """A running OpenSSH server that lets the user of the tests in with ``key``."""

    port: int
    home: Path
    key: Path
    process: subprocess.Popen[bytes]

    def host_key(self, kind: str = "ed25519") -> str:
        """``<type> <base64>``."""
        text = self.home.with_name(f"host_{kind}.pub").read_text()
        return " ".join(text.split()[:2])


@contextmanager
def sshd(
    folder: Path,
    port: int | None = None,
    kinds: Sequence[str] = ("ed25519",),
    path: str = "/usr/bin:/bin",
) -> Iterator[Sshd]:
    """OpenSSH with keys and a home of its own in *folder*; nothing of the machine's is used.

    *path*: where commands that are run over it are found.
    """
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("OpenSSH's server is not installed")
    if os.geteuid() == 0:  # the folder it separates privileges in, which its init script makes
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = port or free_port()
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        _generate_key(folder / f"host_{kind}", kind)
    key = _generate_key(folder / "id_ed25519", "ed25519")
    shutil.copy(key.with_suffix(".pub"), folder / "authorized_keys")
    config = folder / "sshd_config"
    config.write_text(
        "".join(f"HostKey {folder}/host_{kind}\n" for kind in kinds)
        + f"ListenAddress 127.0.0.1\nPort {port}\nPidFile none\nStrictModes no\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPermitRootLogin yes\n"
        f"PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"Subsystem sftp internal-sftp -d {home}\n"
        f"SetEnv HOME={home} PATH={path} SHELL=/bin/sh XDG_CONFIG_HOME={home}/.config\n"
    )
    command = [program, "-D", "-e", "-f", config]
    with process(command, folder / "log", lambda: accepts(port)) as running:
        yield Sshd(port, home, key, running)


def _generate_key(path: Path, kind: str) -> Path:
    if not path.exists():
        command = ["ssh-keygen", "-q", "-N", "", "-C", "test", "-t", kind, "-f", path]
        subprocess.run(command, check=True)
    return path


@dataclass
class Viewer:
    """A running ``runicorn viewer``."""

    url: str
    storage: Path
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(
            f"{self.url}/api/health", trust_env=False, timeout=30
        ).json()
        return answer


@contextmanager
def viewer(
    storage: Path,
    *options: str,
    command: Sequence[str | Path] = (sys.executable, "-m", "runicorn"),
    rate_limits: dict[str, Any] | None = None,
    wait_for: str = "watching",
    cwd: Path = ROOT,
    **env: str,
) -> Iterator[Viewer]:
    """``runicorn viewer`` on *storage*, once its indexer has reached the state *wait_for*.

    Rate limits are off unless *rate_limits* (the content of ``rate_limits.json``) says otherwise.
    """
    port = free_port()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="viewer-")))
        (home / "runicorn").mkdir()
        limits = rate_limits or {"settings": {"enable_rate_limiting": False}}
        (home / "runicorn" / "rate_limits.json").write_text(json.dumps(limits))
        log = home / "log"
        arguments = ["viewer", "--storage", storage, "--port", str(port), *options]
        running = stack.enter_context(
            process(
                [*command, *arguments],
                log,
                lambda: accepts(port),
                cwd=cwd,
                env=clean_environment() | {"XDG_CONFIG_HOME": str(home)} | env,
            )
        )
        started = Viewer(f"http://127.0.0.1:{port}", storage, running, log)
        reached = {"watching"} if wait_for == "watching" else {"watching", wait_for}
        wait_until(lambda: started.health()["ingest"]["state"] in reached, wait_for, 120)
        yield started


def clean_environment() -> dict[str, str]:
    """Our environment without what would configure Runicorn, Django or Python differently."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RUNICORN_", "DJANGO_", "PYTHON", "COVERAGE"))
    } | {"PYTHONUNBUFFERED": "1"}
