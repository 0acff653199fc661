"""Folders of a host, as each of the three families shows them."""

from __future__ import annotations

import os

import pytest

from remote.ssh import browse, listing_cache

from .conftest import USER, login_to

pytestmark = pytest.mark.servers


@pytest.fixture
def folder(api, sshd, request):
    """A folder in the home of the server, and a connection of each family to it."""
    api.trust(sshd)
    path = sshd.home / request.node.name.replace("[", "-").rstrip("]")
    path.mkdir()
    return path


def test_the_unified_api(api, sshd, folder):
    api.post("/unified/connect", login_to(sshd))
    (folder / "b.txt").write_bytes(b"12345")
    (folder / ".hidden").write_bytes(b"")
    (folder / "a").mkdir()
    (folder / "to-a").symlink_to("a")
    (folder / "nowhere").symlink_to("missing")
    (folder / "circle").symlink_to("circle")
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
    (folder / "name with ' \" ; $(x)\nin it").write_bytes(b"")
    for spelling in (str(folder), f"~/{folder.name}", folder.name):
        answer = api.get("/unified/listdir", path=spelling)
        assert answer["ok"] is True and answer["current_path"] == str(folder)
        shown = [(i["name"], i["type"], i["size"]) for i in answer["items"]]
        assert shown == [
            ("a", "dir", 0),
            ("b.txt", "file", 5),
            ("circle", "unknown", 0),
            ("name with ' \" ; $(x)\nin it", "file", 0),
            ("nowhere", "unknown", 0),
            ("to-a", "dir", 0),
        ]
        assert answer["items"][1] == {
            "name": "b.txt",
            "path": f"{folder}/b.txt",
            "type": "file",
            "size": 5,
            "mtime": 10**9,
        }
    assert api.get("/unified/listdir")["current_path"] == str(sshd.home)
    assert api.get("/unified/listdir", path="~")["current_path"] == str(sshd.home)


def test_what_is_not_there(api, sshd, folder):
    api.get("/unified/listdir", 400)
    api.post("/unified/connect", login_to(sshd))
    assert "No such file" in api.get("/unified/listdir", 404, path=f"{folder}/x")["detail"]


def test_a_name_that_is_no_text_does_not_hide_the_others(api, sshd, folder):
    api.post("/unified/connect", login_to(sshd))
    (folder / "a").write_bytes(b"")
    (folder / os.fsdecode(b"\xff\xfe")).write_bytes(b"")
    assert [i["name"] for i in api.get("/unified/listdir", path=folder.name)["items"]] == ["a"]


def test_an_endless_folder_ends(api, sshd, folder, monkeypatch):
    monkeypatch.setattr(browse, "MOST_ENTRIES", 150)
    api.post("/unified/connect", login_to(sshd))
    for number in range(400):
        (folder / str(number)).write_bytes(b"")
    assert len(api.get("/unified/listdir", path=folder.name)["items"]) == 150


def test_the_legacy_api(api, sshd, folder):
    required = "host and username are required"
    assert api.post("/ssh/connect", {"host": "h"}, 400)["detail"] == required
    login = login_to(sshd)
    login["pkey_path"] = login.pop("private_key_path")
    refused = api.post("/ssh/connect", {**login, "pkey_path": None}, 401)
    assert refused["detail"].startswith("SSH connect failed: Permission denied")
    session = api.post("/ssh/connect", login)["session_id"]
    other = api.post("/ssh/connect", login)["session_id"]
    assert session.startswith(f"{USER}@127.0.0.1:{sshd.port}:")
    (folder / "B").write_bytes(b"1")
    (folder / ".c").write_bytes(b"")
    (folder / "z").mkdir()
    items = api.get("/ssh/listdir", session_id=session, path=str(folder))["items"]
    assert [(i["name"], i["type"]) for i in items] == [("z", "dir"), (".c", "file"), ("B", "file")]
    assert items[2]["filename"] == "B" and items[2]["st_size"] == 1
    assert api.get("/ssh/listdir", session_id=session, path=f"{folder}/x") == {"items": []}
    assert len(api.get("/ssh/sessions")["sessions"]) == 2
    assert api.post("/ssh/close", {"session_id": session}) == {"ok": True}
    assert api.post("/ssh/close", {"session_id": session}) == {"ok": False}
    api.get("/ssh/listdir", session_id=other)
    gone = {"detail": f"Session {session} not found"}
    assert api.get("/ssh/listdir", 404, session_id=session) == gone
    assert api.post("/ssh/close", {}, 400)["detail"] == "session_id required"


def test_what_the_python_client_uses(api, sshd, folder):
    answer = api.post("/remote/connect", login_to(sshd))
    connection_id = f"{USER}@127.0.0.1:{sshd.port}"
    peer = {"host": "127.0.0.1", "port": sshd.port, "username": USER, "connected": True}
    assert answer == {"ok": True, "connection_id": connection_id, **peer}
    assert api.get("/remote/sessions") == {"sessions": [{"key": connection_id, **peer}]}
    assert api.get("/remote/status")["connection_count"] == 1
    (folder / "a.txt").write_bytes(b"123")
    listed = api.get("/remote/fs/list", connection_id=connection_id, path=f"~/{folder.name}")
    assert listed["path"] == str(folder)
    (item,) = listed["items"]
    assert item.pop("mtime") > 0 and item == {"name": "a.txt", "is_dir": False, "size": 3}
    for path, exists, is_dir in (("~", True, True), (f"{folder}/a.txt", True, False), ("/x", 0, 0)):
        answer = api.get("/remote/fs/exists", connection_id=connection_id, path=path)
        assert answer == {"path": path, "exists": exists, "is_dir": is_dir}
    wrong = api.get("/remote/fs/list", 400, connection_id="gpu")
    assert wrong["detail"] == "Invalid connection_id format: gpu"
    unknown = api.get("/remote/fs/list", 404, connection_id="u@gpu:22")
    assert unknown["detail"] == "Connection not found or inactive: u@gpu:22"
    del peer["connected"]
    removed = {"ok": True, "message": "Connection removed"}
    assert api.post("/remote/disconnect", peer) == removed
    none = {"ok": False, "message": "No connection pool"}
    assert api.post("/remote/disconnect", peer) == none
    api.get("/remote/fs/list", 404, connection_id=connection_id)


def test_a_connection_is_shared_and_closes_with_its_last_holder(api, sshd, folder):
    api.post("/unified/connect", login_to(sshd))
    session = api.post("/ssh/connect", login_to(sshd))["session_id"]
    assert api.get("/unified/status")["reference_count"] == 2
    api.post("/unified/disconnect")
    assert len(api.get("/remote/sessions")["sessions"]) == 1
    api.post("/ssh/close", {"session_id": session})
    assert api.get("/remote/sessions") == {"sessions": []}


def test_a_folder_is_asked_for_once_in_a_few_seconds(api, sshd, monkeypatch):
    api.trust(sshd)
    api.post("/unified/connect", login_to(sshd))
    folder = sshd.home / "recent"
    folder.mkdir()
    names = lambda: [i["name"] for i in api.get("/unified/listdir", path="recent")["items"]]  # noqa: E731
    assert names() == []
    (folder / "new").touch()
    assert names() == []  # what was said a moment ago
    monkeypatch.setattr(listing_cache, "KEPT_SECONDS", 0)
    assert names() == ["new"]
    api.get("/unified/listdir", 404, path="missing")
    again = api.get("/unified/listdir", 429, path="missing")
    assert again["detail"].startswith("Rate limited: please wait ")
    monkeypatch.setattr(listing_cache, "PAUSE_SECONDS", 0)
    api.get("/unified/listdir", 404, path="missing")
