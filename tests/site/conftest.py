from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from django.test import Client

from runicorn import layout
from runicorn_site import ratelimits

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def fresh_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts with nothing counted and no ``rate_limits.json``."""
    ratelimits.limiter.cache_clear()
    monkeypatch.setattr(ratelimits, "policy_file", ratelimits.PolicyFile())
    (layout.user_config_dir() / "rate_limits.json").unlink(missing_ok=True)


@pytest.fixture
def configure() -> Callable[[object], None]:
    """Write ``rate_limits.json`` and let the second pass after which it is looked at again."""

    def write(config: object) -> None:
        path = layout.user_config_dir() / "rate_limits.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(config if isinstance(config, str) else json.dumps(config))
        ratelimits.policy_file._next_look = 0.0

    return write


@pytest.fixture
def browser() -> Client:
    """Requests of this machine, whose exceptions become the answers that a user gets."""
    return Client(raise_request_exception=False, headers={"host": "127.0.0.1:23300"})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """``host:port`` of the site on a real daphne; its own storage root and configuration."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "settings.local",
        "RUNICORN_DIR": str(tmp_path / "root"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "PYTHONPATH": str(PROJECT),
    }
    manage = [sys.executable, str(PROJECT / "manage.py"), "migrate", "--verbosity", "0"]
    subprocess.run(manage, env=environment, check=True)
    daphne = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", address.split(":")[1]]
    process = subprocess.Popen([*daphne, "runicorn_site.asgi:application"], env=environment)
    try:
        for _ in range(100):
            try:
                httpx.get(f"http://{address}/api/health")
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(10)
