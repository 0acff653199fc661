"""settings.team and what ``manage.py check`` says of a wrong deployment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.checks import run_checks

from tests import servers

ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "settings.team",
    "RUNICORN_PUBLIC_URL": "https://ml.example.org:8443/lab/",
    "RUNICORN_SECRET_KEY": "s" * 64,
    "RUNICORN_DATABASE_URL": "postgresql://ada:secret%2F@db.example.org/lab?sslmode=require",
    "RUNICORN_REDIS_URL": "redis://127.0.0.1:6379/0",
    "RUNICORN_ALLOW_REMOTE": "1",
}


def ask(expression: str, **env: str) -> str:
    """The value of *expression* under ``settings.team`` and *env*, or the error instead."""
    code = f"from django.conf import settings; print({expression})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=servers.ROOT,
        env=servers.clean_environment() | ENVIRONMENT | env,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_the_public_address_decides_paths_hosts_and_cookies(tmp_path: Path) -> None:
    names = "FORCE_SCRIPT_NAME ALLOWED_HOSTS CSRF_TRUSTED_ORIGINS SESSION_COOKIE_PATH STATIC_URL"
    told = ask(f"[getattr(settings, n) for n in {names.split()}]", RUNICORN_DIR=str(tmp_path))
    hosts, origins = ["ml.example.org"], ["https://ml.example.org:8443"]
    assert told == str(["/lab", hosts, origins, "/lab/", "/lab/static/"])


def test_an_address_without_a_sub_path_is_fine(tmp_path: Path) -> None:
    env = {"RUNICORN_DIR": str(tmp_path), "RUNICORN_PUBLIC_URL": "https://ml.example.org"}
    names = "FORCE_SCRIPT_NAME SESSION_COOKIE_PATH STATIC_URL"
    told = ask(f"[getattr(settings, n) for n in {names.split()}]", **env)
    assert told == str([None, "/", "/static/"])


def test_any_connection_string_of_postgresql_is_understood(tmp_path: Path) -> None:
    told = ask("settings.DATABASES['default']", RUNICORN_DIR=str(tmp_path))
    for part in ("'lab'", "'ada'", "'secret/'", "'db.example.org'", "'sslmode': 'require'"):
        assert part in told


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file\n")
    env = {"RUNICORN_DIR": str(tmp_path), "RUNICORN_SECRET_KEY_FILE": str(tmp_path / "key")}
    assert ask("settings.SECRET_KEY", **env) == "from a file"


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"RUNICORN_ALLOW_REMOTE": "0"}, "then set RUNICORN_ALLOW_REMOTE=1"),
        ({"RUNICORN_PUBLIC_URL": "ml.example.org"}, "RUNICORN_PUBLIC_URL is what people type"),
        ({"RUNICORN_SECRET_KEY": ""}, "Set the environment variable RUNICORN_SECRET_KEY"),
        ({"RUNICORN_SECRET_KEY_FILE": "/nowhere"}, "RUNICORN_SECRET_KEY_FILE='/nowhere'"),
        ({"RUNICORN_REDIS_URL": ""}, "Set the environment variable RUNICORN_REDIS_URL"),
    ],
)
def test_what_cannot_be_meant_stops_the_start(env: dict[str, str], sentence: str) -> None:
    assert sentence in ask("settings.DEBUG", **{"RUNICORN_DIR": "/tmp"} | env)


def check_ids() -> set[str | None]:
    return {message.id for message in run_checks()}


def test_the_embedded_default_has_nothing_to_complain_of() -> None:
    assert check_ids() == set()


def test_a_missing_storage_folder_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(settings, "RUNICORN_STORAGE_ROOT", tmp_path / "nowhere")
    assert check_ids() == {"runicorn.E001"}


def test_what_a_database_server_asks_for_must_be_shared_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rest of the embedded default beside it keeps everything to one process."""
    databases = {"default": {"ENGINE": "django.db.backends.postgresql"}}
    monkeypatch.setattr(settings, "DATABASES", databases)
    expected = {f"runicorn.E00{number}" for number in (2, 3, 4, 5)}
    assert check_ids() == expected
