"""Each call of ``client.remote``, blocking and asynchronous: a server, OpenSSH, a viewer there."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runicorn import api
from tests import servers

from .conftest import ROOT, USER

pytestmark = pytest.mark.servers

HOST = "127.0.0.1"


class Calls:
    """Either form of ``client.remote``, its answers waited for."""

    def __init__(self, remote: Any, wait: Callable[[Any], Any]) -> None:
        self._remote, self._wait = remote, wait

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._wait(getattr(self._remote, name)(*args, **kwargs))


@pytest.fixture(params=["blocking", "asynchronous"])
def remote(request, real) -> Iterator[Calls]:
    if request.param == "blocking":
        with api.connect(real.url) as client:
            yield Calls(client.remote, lambda answer: answer)
        return
    with asyncio.Runner() as runner:
        client = api.AsyncRunicornClient(real.url)
        runner.run(client.__aenter__())
        yield Calls(client.remote, runner.run)
        runner.run(client.close())


def test_from_a_strangers_key_to_a_viewer_and_back(remote, real, gpu, tmp_path):
    login = {"port": gpu.port, "username": USER, "private_key_path": str(gpu.key)}
    with pytest.raises(api.RunicornAPIError) as refused:
        remote.connect(HOST, **login)
    assert (refused.value.status_code, type(refused.value)) == (409, api.RunicornAPIError)
    host_key = refused.value.detail["host_key"]
    assert host_key["public_key"] == gpu.host_key()
    assert remote.accept_host_key(host_key) == {"ok": True}
    trusted = [(key["port"], key["fingerprint_sha256"]) for key in remote.list_host_keys()]
    assert (gpu.port, host_key["fingerprint_sha256"]) in trusted

    stranger = shutil.copy(gpu.home.with_name("host_ed25519"), tmp_path)  # no key of the user's
    with pytest.raises(api.AuthenticationError, match="401"):
        remote.connect(HOST, **login | {"private_key_path": str(stranger)})
    answer = remote.connect(HOST, **login)
    identifier = answer["connection_id"]
    best = remote.list_remote_storage_candidates(identifier, "system", max_depth=3)[0]
    assert (best["path"], best["has_archive"]) == (str(gpu.home / ROOT.removeprefix("~/")), False)
    assert best["run_count"] > 0 and best["score"] > 100
    with pytest.raises(api.RunicornAPIError):
        remote.list_remote_storage_candidates(identifier, scan_root="/nowhere")
    assert (answer["ok"], identifier) == (True, f"{USER}@{HOST}:{gpu.port}")
    assert {
        "key": identifier,
        "host": HOST,
        "port": gpu.port,
        "username": USER,
        "connected": True,
    } in remote.list_sessions()

    (gpu.home / "notes.txt").write_text("1234")
    for name in (identifier, HOST):
        items = {item["name"]: item for item in remote.list_remote_directory(name, "~")}
        assert items["notes.txt"].keys() == {"name", "is_dir", "size", "mtime"}
        assert (items["notes.txt"]["is_dir"], items["notes.txt"]["size"]) == (False, 4)
        assert items["bin"]["is_dir"] is True
        assert remote.check_remote_path(name, ROOT) is True
        assert remote.check_remote_path(name, "~/nothing") is False
    with pytest.raises(api.NotFoundError):
        remote.list_remote_directory(identifier, "~/nothing")

    port = servers.free_port()
    viewer = remote.start_viewer(identifier, ROOT, local_port=port)
    assert (viewer["connection_id"], viewer["remote_host"]) == (identifier, HOST)
    assert (viewer["local_port"], viewer["local_url"]) == (port, f"http://localhost:{port}")
    assert (viewer["remote_root"], viewer["status"]) == (ROOT, "running")
    assert viewer["remote_pid"] > 1 and 8080 <= viewer["remote_port"] <= 8999
    assert viewer["created_at"] == viewer["startedAt"] / 1000
    with api.connect(viewer["local_url"]) as there:
        assert [run["name"] for run in there.list_experiments()] == ["there"]
    with pytest.raises(api.BadRequestError):
        remote.start_viewer(identifier, ROOT, local_port=port)  # which is taken

    listed = {one["session_id"]: one for one in remote.list_viewer_sessions()}
    assert listed[viewer["session_id"]]["local_url"] == viewer["local_url"]
    session = api.RemoteSession.from_dict(listed[viewer["session_id"]])
    assert (session.remote_host, session.local_url) == (HOST, viewer["local_url"])
    status = remote.get_remote_status()
    assert status["viewer_session_count"] == len(listed)
    assert identifier in [one["key"] for one in status["connections"]]

    assert remote.stop_viewer(viewer["session_id"])["ok"] is True
    assert viewer["session_id"] not in [one["session_id"] for one in remote.list_viewer_sessions()]
    assert not servers.accepts(port)
    with pytest.raises(api.NotFoundError):
        remote.stop_viewer(viewer["session_id"])

    # Who has not logged in takes the connection that is open.
    with api.connect(real.url) as other:
        viewer = other.remote.start_viewer(HOST, ROOT)
    assert remote.disconnect(HOST) == {"ok": True, "message": "Connection removed"}
    assert viewer["session_id"] not in [one["session_id"] for one in remote.list_viewer_sessions()]
    assert identifier not in [one["key"] for one in remote.list_sessions()]
    for call in (remote.check_remote_path, remote.start_viewer):
        with pytest.raises(api.NotFoundError, match="no open connection to"):
            call(HOST, "~")
        with pytest.raises(api.NotFoundError):
            call(f"other@{HOST}:{gpu.port}", "~")
    assert remote.disconnect(HOST, gpu.port, USER)["ok"] is False
    assert remote.remove_host_key(HOST, host_key["key_type"], gpu.port) is True
    assert remote.remove_host_key(HOST, host_key["key_type"], gpu.port) is False
