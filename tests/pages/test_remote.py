"""The page of the remote hosts, over a real OpenSSH server."""

from __future__ import annotations

import html
import re

import asyncssh
import pytest

from remote.ssh import known_hosts
from tests.remote.conftest import PASSWORD, USER, as_owner, login_to, own_home, password_host, sshd
from tests.runs.conftest import Root, root
from tests.servers import wait_until

__all__ = ["Root", "as_owner", "own_home", "password_host", "root", "sshd"]
pytestmark = [pytest.mark.servers, pytest.mark.django_db, pytest.mark.usefixtures("as_owner")]


def post(client, verb, status=200, /, **data):
    answer = client.post(f"/remote/{verb}", data, follow=True)
    assert answer.status_code == status, answer.content
    return html.unescape(answer.content.decode())


def number_in(page):
    return re.search(r'name="number" value="([^"]+)"', page)[1]


def test_a_host_from_its_key_to_a_mirror_and_back(client, sshd, root):
    there = Root(sshd.home / "page")
    there.path.mkdir()
    there.run("demo", "brought").write("status.json", {"status": "finished"})
    for storage in (there, root):  # one that is here already, and is not that one
        storage.run("demo", "clash", "20260101_000000_cccccc")
    login = {k: v for k, v in login_to(sshd).items() if k not in ("use_agent", "username")}
    question = post(client, "connect", **login, username=USER)
    assert "Is this the key of" in question and "SHA256:" in question
    page = post(client, "trust", number=number_in(question))
    identity = f"{USER}@127.0.0.1:{sshd.port}"
    assert f"Connected to {identity}." in page
    assert "This question is too old" in post(client, "trust", number=number_in(question))

    assert "Say which folder" in post(client, "start-mirror", id=identity, folder=" ")
    assert "There is no folder ~/x" in post(client, "start-smart", id=identity, folder="~/x")
    page = post(client, "start-mirror", id=identity, folder="~/page")
    assert f"{identity}:~/page" in page
    wait_until(lambda: list(root.path.glob("demo/brought/runs/*/status.json")), "is copied")
    error = "Some runs are here already and did not come from there"
    for address in ("/remote/live", "/admin/remote/syncjob/?live"):
        wait_until(lambda at=address: error in client.get(at).content.decode(), "is shown")
    sync = re.search(r'stop-sync" name="id" value="([^"]+)"', page)[1]
    page = post(client, "retry-sync", id=sync)
    sync = re.search(r'stop-sync" name="id" value="([^"]+)"', page)[1]
    assert "Runs that are synced" not in post(client, "stop-sync", id=sync)

    assert "pip install 'runicorn[viewer]'" in post(
        client, "start-viewer", id=identity, folder="~/page"
    )
    assert "127.0.0.1" not in re.sub(
        r"(?s)Trusted host keys.*", "", post(client, "disconnect", id=identity)
    )
    other = asyncssh.generate_private_key("ssh-ed25519").convert_to_public()
    known_hosts.accept("127.0.0.1", sshd.port, other)
    question = post(client, "connect", **login, username=USER)
    assert "has changed" in question and other.get_fingerprint() in question
    assert f"Connected to {identity}." in post(client, "trust", number=number_in(question))
    post(client, "disconnect", id=identity)
    post(client, "forget-key", id=f"127.0.0.1 {sshd.port} ssh-ed25519")
    assert "Is this the key of" in post(client, "connect", **login, username=USER)


def test_secrets_are_shown_on_no_page(client, password_host, own_home):
    login = {**password_host, "password": "s3cret", "name": "gpu-7", "save": "on"}
    refused = post(client, "connect", 401, **login)
    assert "The host refused this login" in refused and "s3cret" not in refused
    login = {**login, "password": PASSWORD, "remember_password": "on"}
    page = post(client, "connect", **login)
    assert "secret kept" in page and PASSWORD not in page
    key = re.search(r'name="saved" value="([^"]+)"', page)[1]
    post(client, "disconnect", id="someone@127.0.0.1:{port}".format(**password_host))
    assert "Connected to someone@" in post(client, "connect", saved=key)
    assert "gpu-7" not in post(client, "forget-connection", id=key)
    assert "Unable to connect" in post(client, "connect", 400, host="127.0.0.1", port=1)
    for wrong in (
        {"host": "$(reboot)"},
        {"host": "h", "port": "x"},
        {"host": "h", "username": "a;b"},
    ):
        assert 'aria-invalid="true"' in post(client, "connect", 400, **wrong)
