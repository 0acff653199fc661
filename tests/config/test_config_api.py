"""Saved SSH connections and preferences over HTTP; what lies on disk behind them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from itertools import cycle
from pathlib import Path
from urllib.parse import quote

import pytest

from runicorn import config, credentials

PASSWORD = "correct horse"
KEY = "gpu.example.org:22@ada"


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch):
    """A developer's own keyring is none of our business."""
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    monkeypatch.setattr(credentials, "_from_keyring", lambda directory: None)
    monkeypatch.setattr(credentials, "_into_keyring", lambda directory, key: False)


def connection(**more):
    return {"host": "gpu.example.org", "username": "ada", "auth_method": "password", **more}


def save(api, status=200, **more):
    return api.post("/config/ssh_connections", connection(**more), status)


def remembered(api, **more):
    return save(api, remember_password=True, password=PASSWORD, **more)


def details(api, key, **headers):
    return api.client.get(
        f"/api/config/ssh_connections/{quote(key)}/details",
        headers={"host": "localhost", **headers},
    )


def connections(api):
    return api.get("/config/ssh_connections")["connections"]


def test_where_things_are(api, root):
    answer = api.get("/config")
    assert answer.keys() == {"user_root_dir", "storage", "config_file", "version"}
    assert answer["user_root_dir"] == ""
    assert answer["storage"] == str(root.path)
    assert answer["config_file"] == str(config.config_file())


def test_a_server_whose_environment_names_the_root_stays_there(api, settings, tmp_path):
    settings.RUNICORN_ROOT_CAN_MOVE = False
    answer = api.post("/config/user_root_dir", {"path": str(tmp_path / "other")}, 400)
    assert "environment" in answer["detail"]
    assert not (tmp_path / "other").exists()
    assert config.user_root_dir() == ""


def test_a_connection_is_saved_listed_and_removed(api):
    assert remembered(api, name="Lab 实验室", port=2222) == {
        "ok": True,
        "message": "SSH connection saved successfully",
        "key": "gpu.example.org:2222@ada",
    }
    assert connections(api) == [
        {
            **connection(name="Lab 实验室", port=2222, remember_password=True),
            "key": "gpu.example.org:2222@ada",
            "has_password": True,
            "has_private_key": False,
        }
    ]
    for key in ("gpu.example.org:2222@ada", "ada@gpu.example.org:2222@ada"):
        assert details(api, key).json() == {"ok": True, "connection": connections(api)[0]}
        assert config.ssh_connection(key)["password"] == PASSWORD
    path = f"/api/config/ssh_connections/{quote('ada@gpu.example.org:2222@ada')}"
    for _ in range(2):  # the second time there is none, and that is fine
        assert api.client.delete(path).json()["ok"] is True
    assert connections(api) == []
    assert details(api, "gpu.example.org:2222@ada").status_code == 404


def test_secrets_are_nowhere_in_the_clear(api, caplog):
    remembered(api, private_key="PRIVATE", passphrase="PHRASE")
    folder = config.config_file().parent
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(s in content for s in (PASSWORD.encode(), b"PRIVATE", b"PHRASE")), path
    assert (folder / credentials.KEY_FILE).stat().st_mode & 0o777 == 0o600
    answers = [json.dumps(connections(api)), details(api, KEY).content.decode()]
    assert not any(s in answer for s in (PASSWORD, "PRIVATE", "PHRASE") for answer in answers)
    assert PASSWORD not in caplog.text


def test_without_remembering_no_secret_is_kept(api):
    remembered(api)
    save(api, password=PASSWORD)
    assert connections(api)[0]["has_password"] is False
    assert "password" not in details(api, KEY).json()["connection"]


def test_ten_are_kept_the_newest_last(api):
    for number in range(11):
        save(api, host=f"h{number}")
    save(api, host="h5", name="again")
    hosts = [entry["host"] for entry in connections(api)]
    assert hosts == [*(f"h{n}" for n in range(1, 11) if n != 5), "h5"]


def test_details_are_for_the_owner_alone(api):
    remembered(api)
    path = f"/api/config/ssh_connections/{quote('gpu.example.org:22@ada')}/details"
    answer = api.client.get(path, headers={"host": "localhost"}, REMOTE_ADDR="192.0.2.7")
    assert answer.status_code == 403
    assert PASSWORD not in answer.content.decode()


def test_details_are_for_our_own_pages(api, settings):
    settings.CORS_ALLOW_ALL_ORIGINS = True  # for everything else
    remembered(api)
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:5173"},
        {"origin": "https://localhost"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
    ):
        answer = details(api, KEY, **headers)
        assert answer.status_code == 403
        assert PASSWORD not in answer.content.decode()
    assert details(api, KEY, origin="http://localhost").status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": None},
        {"host": " "},
        {"username": ""},
        {"username": "a b"},
        {"host": "a/b"},
        {"port": "22"},
        {"port": 0},
        {"auth_method": "telepathy"},
        {"remember_password": "yes"},
        {"password": 5},
    ],
)
def test_what_is_no_connection_is_refused(api, wrong):
    detail = save(api, 400, **wrong)["detail"]
    assert detail.startswith("Failed to save connection: ")
    assert connections(api) == []


def test_a_stored_secret_cannot_be_moved_to_another_host(api):
    remembered(api)
    path = config.config_file()
    path.write_text(path.read_text().replace("gpu.example.org", "evil.example.org"))
    with pytest.raises(credentials.CredentialsError):
        config.ssh_connection("evil.example.org:22@ada")


def test_nothing_is_stored_when_it_cannot_be_encrypted(api, monkeypatch):
    def fail(path, key):
        raise PermissionError("read-only")

    monkeypatch.setattr(credentials, "_into_file", fail)
    assert "read-only" in save(api, 400, remember_password=True, password=PASSWORD)["detail"]
    assert connections(api) == []
    assert save(api)["ok"] is True, "without a secret there is nothing to encrypt"


def test_a_lost_key_is_told_and_never_replaced_silently(api):
    remembered(api)
    (config.config_file().parent / credentials.KEY_FILE).unlink()
    with pytest.raises(credentials.CredentialsError, match="enter them again"):
        config.ssh_connection(KEY)


def test_what_v04_stored_is_read_once_and_encrypted(api):
    folder = config.config_file().parent
    key = os.urandom(32)
    (folder / ".credential_key").write_bytes(key)
    xored = bytes(a ^ b for a, b in zip(PASSWORD.encode(), cycle(key), strict=False))
    old = {
        "user_root_dir": "/data",
        "ssh_connections": [
            connection(port=22, password="ENC:" + base64.b64encode(xored).decode()),
            connection(port=23, password="in the clear"),
            connection(port=24, password="ENC:damaged"),
        ],
    }
    config.config_file().write_text(json.dumps(old))
    assert [entry["has_password"] for entry in connections(api)] == [True, True, False]
    stored = config.load()
    assert stored["user_root_dir"] == "/data"
    assert all(entry["password"].startswith("RN1:") for entry in stored["ssh_connections"][:2])
    (folder / ".credential_key").unlink()
    assert config.ssh_connection(KEY)["password"] == PASSWORD
    assert config.ssh_connection("gpu.example.org:23@ada")["password"] == "in the clear"


def test_a_damaged_file_is_not_overwritten(api):
    config.config_file().write_text("{ my own text")
    assert "damaged" in save(api, 400)["detail"]
    assert config.config_file().read_text() == "{ my own text"


def test_two_processes_saving_at_once_lose_nothing(api, tmp_path):
    code = (
        "import sys; from runicorn import config\n"
        "for n in range(4): config.save_ssh_connection("
        "{'host': f'{sys.argv[1]}{n}', 'username': 'u', 'password': 'p',"
        " 'remember_password': True})"
    )
    env = {**os.environ, "XDG_CONFIG_HOME": str(config.config_file().parent.parent)}
    env["PYTHONPATH"] = str(Path(config.__file__).parent.parent)
    both = [subprocess.Popen([sys.executable, "-c", code, name], env=env) for name in "ab"]
    assert [process.wait() for process in both] == [0, 0]
    assert len(connections(api)) == 8
    assert config.ssh_connection("a0:22@u")["password"] == "p"
    assert config.ssh_connection("b3:22@u")["password"] == "p"


def test_a_keyring_is_preferred_to_a_file(api, monkeypatch):
    kept = {}
    monkeypatch.setattr(credentials, "_from_keyring", kept.get)
    monkeypatch.setattr(
        credentials, "_into_keyring", lambda directory, key: kept.update({directory: key}) or True
    )
    remembered(api)
    assert len(next(iter(kept.values()))) == 32
    assert not (config.config_file().parent / credentials.KEY_FILE).exists()
    assert config.ssh_connection(KEY)["password"] == PASSWORD


# -- rate limits and preferences -----------------------------------------------------------------


def test_rate_limits_can_be_read_and_written(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config.get_rate_limit_config() == config.DEFAULT_RATE_LIMITS
    config.save_rate_limit_config({"default": {"max_requests": 5}, "_comment": "中文"})
    assert config.get_rate_limit_config()["default"]["max_requests"] == 5
    assert "中文" in config.rate_limits_file().read_text()
    config.save_rate_limit_config({"bad": object()})  # never raises
    assert config.get_rate_limit_config()["default"]["max_requests"] == 5
    config.rate_limits_file().write_text("no JSON")
    assert config.get_rate_limit_config() == config.DEFAULT_RATE_LIMITS


def test_column_widths(api):
    widths = {"table": "runs", "size": "1920x1080", "widths": {"name": 180, "状态": 90}}
    path = "/config/column-widths"
    assert api.get(f"{path}?table=runs&size=1920x1080")["widths"] == {}
    assert api.post(path, {**widths, "window_width": 1920})["ok"] is True
    api.post(path, {**widths, "size": "800x600"})
    api.post(path, {**widths, "table": "runs2"})
    assert api.get(f"{path}?table=runs&size=1920x1080") == widths
    assert api.client.delete(f"/api{path}?table=runs&size=800x600").json()["ok"] is True
    assert api.get(f"{path}?table=runs&size=800x600")["widths"] == {}
    assert api.client.delete(f"/api{path}?table=runs").status_code == 200
    assert api.get(f"{path}?table=runs&size=1920x1080")["widths"] == {}
    assert api.get(f"{path}?table=runs2&size=1920x1080")["widths"] != {}
    assert api.get(f"{path}?table=runs", 400)["errors"] == [
        {"loc": ["query", "size"], "msg": "Field required"}
    ]
    for wrong in ({**widths, "widths": {"a": "wide"}}, {"table": "runs"}, {**widths, "widths": 5}):
        assert api.post(path, wrong, 400)["errors"]


def test_preferences_that_cannot_be_written_are_500(api):
    (config.config_file().parent / "ui_preferences.json").mkdir()
    body = {"table": "runs", "size": "1x1", "widths": {}}
    detail = api.post("/config/column-widths", body, 500)["detail"]
    assert detail == "Failed to save UI preferences"


def test_dismissed_alerts(api):
    path = "/config/dismissed-alerts"
    assert api.get(path) == {"dismissed_alerts": []}
    message = api.post(f"{path}/dismiss", {"alert_id": "a"})["message"]
    assert message == "Alert 'a' dismissed"
    api.post(f"{path}/dismiss", {"alert_id": "b"})
    api.post(f"{path}/dismiss", {"alert_id": "a"})
    assert api.get(path) == {"dismissed_alerts": ["b", "a"]}
    assert api.post(f"{path}/undismiss", {"alert_id": "b"})["message"] == "Alert 'b' restored"
    assert api.get(path) == {"dismissed_alerts": ["a"]}
    assert api.post(f"{path}/clear", {})["ok"] is True
    assert api.get(path) == {"dismissed_alerts": []}
    assert api.post(f"{path}/dismiss", {}, 400)["errors"]
    assert api.post(f"{path}/other", {}, 404)
