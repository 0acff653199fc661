"""Saved hosts, sessions and sync jobs in the admin, over a real OpenSSH server."""

from __future__ import annotations

import html
import re

import pytest

from runicorn import config
from tests.remote.conftest import (
    PASSWORD,
    USER,
    api,
    as_owner,
    login_to,
    own_home,
    password_host,
    sshd,
)
from tests.runs.conftest import Root, root
from tests.servers import wait_until

__all__ = ["api", "as_owner", "own_home", "password_host", "root", "sshd"]
pytestmark = [pytest.mark.servers, pytest.mark.django_db, pytest.mark.usefixtures("as_owner")]


def page(client, path, status=200):
    answer = client.get(f"/admin/remote/{path}")
    assert answer.status_code == status
    return html.unescape(answer.content.decode())


def post(client, path, **data):
    answer = client.post(f"/admin/remote/{path}", data, follow=True)
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def test_a_hosts_secrets_are_written_and_never_shown(client, password_host):
    form = {**password_host, "name": "gpu-7", "auth_method": "password"}
    form |= {"remember_password": "on", "password": PASSWORD, "passphrase": "s3cret"}
    listed = post(client, "host/add/", **form)
    address = re.search(r'href="/admin/remote/(host/[^"]+/change/)"', listed)[1]
    shown = page(client, address)
    assert 'value="gpu-7"' in shown
    for text in (listed, shown):
        assert PASSWORD not in text and "s3cret" not in text

    # What is left empty stays; what is written takes its place.
    post(client, address, **{**form, "name": "gpu-8", "password": "", "passphrase": "new"})
    (key,) = [one["key"] for one in config.ssh_connections()]
    kept = config.ssh_connection(key)
    assert (kept["name"], kept["password"], kept["passphrase"]) == ("gpu-8", PASSWORD, "new")
    # Another host gets none of it, and nothing stays behind.
    post(client, address, **{**form, "host": "other", "password": "", "passphrase": ""})
    (moved,) = config.ssh_connections()
    assert (moved["host"], moved["has_password"]) == ("other", False)
    assert "required" in post(client, "host/add/", name="x")
    assert "There is none." in post(client, "host/?verb=forget", id=moved["key"])
    page(client, "host/nothing/change/", 404)


def test_sync_jobs_and_sessions_are_started_stopped_and_retried(client, api, sshd, root):
    api.trust(sshd)
    identity = api.post("/remote/connect", login_to(sshd))["connection_id"]
    there = Root(sshd.home / "admin")
    there.path.mkdir()
    there.run("demo", "by-admin").write("status.json", {"status": "finished"})
    job = {"connection": identity, "folder": "~/admin", "mode": "mirror"}
    listed = post(client, "syncjob/add/", **job)
    assert f"{USER}@127.0.0.1:{sshd.port}:~/admin" in listed
    wait_until(lambda: list(root.path.glob("demo/by-admin/runs/*/status.json")), "is copied")
    for verb in ("retry", "stop"):
        name = re.search(r'value="(mirror:[^"]+)"', page(client, "syncjob/?live"))[1]
        listed = post(client, f"syncjob/?verb={verb}", id=name)
    assert "There is none." in listed

    assert identity in page(client, "session/")
    session = {"connection": identity, "folder": "~/nowhere"}
    assert "not installed on remote server" in post(client, "session/add/", **session)
    post(client, "session/?verb=disconnect", id=identity)
    assert "There is none." in page(client, "session/?live")
    assert client.post("/admin/remote/session/?verb=unknown").status_code == 403


def test_whoever_may_not_is_refused(client):
    client.defaults["REMOTE_ADDR"] = "192.0.2.1"
    for model in ("host", "session", "syncjob"):
        assert client.get(f"/admin/remote/{model}/").status_code == 302
        assert client.post(f"/admin/remote/{model}/?verb=stop").status_code == 302
