"""The process that holds the connections: what it tells others, and what is left of it."""

from __future__ import annotations

import time
from datetime import timedelta

import httpx
import pytest

from remote.exceptions import OwnerAway, RemoteError
from remote.models import Command, Heartbeat, Session
from remote.owner import asking, sealing, state
from tests import servers

from .conftest import PASSWORD, RUN, login_to, make_run


def test_a_sealed_message_is_read_once_more_by_the_same_server_only(settings, monkeypatch):
    message = {"login": {"password": PASSWORD, "host": "höst"}, "none": None}
    sealed = sealing.seal(message)
    assert PASSWORD not in sealed and sealing.unseal(sealed) == message
    with pytest.raises(sealing.Unreadable):
        sealing.unseal(sealed[:-10] + sealed[-9:] + "A")
    settings.SECRET_KEY = "another"
    with pytest.raises(sealing.Unreadable):
        sealing.unseal(sealed)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 2 * sealing.SECONDS)
    old = sealing.seal(message)
    monkeypatch.undo()
    with pytest.raises(sealing.Unreadable):
        sealing.unseal(old)


def test_nothing_of_a_command_is_left_in_clear(db, settings, monkeypatch):
    """Without a worker that answers, a secret goes again with the command."""
    settings.RUNICORN_WORKER = True
    with pytest.raises(OwnerAway, match="not running"):
        asking.ask("connect", holder="h", login={"password": PASSWORD}, client="c")
    Heartbeat.objects.create(pk=1, seen_at=asking.Now())
    seen = []
    monkeypatch.setattr(asking.time, "sleep", lambda _: seen.append(Command.objects.values().get()))
    with pytest.raises(OwnerAway, match="in time"):
        asking._wait_for_answer("connect", {"login": {"password": PASSWORD}}, 0.2)
    assert seen and PASSWORD not in repr(seen)
    assert not Command.objects.exists()


@pytest.mark.parametrize("silence", [1, 30])
def test_a_silent_worker_counts_as_gone(db, settings, silence):
    settings.RUNICORN_WORKER = True
    Heartbeat.objects.create(pk=1, seen_at=asking.Now() - timedelta(seconds=silence))
    where = {"host": "h", "port": 22, "username": "u"}
    Session.objects.create(
        **where,
        id="u@h:22",
        is_open=True,
        is_current=True,
        holders=[],
        legacy_sessions=["x"],
        connected_at=1,
        reconnect_count=0,
    )
    (session,) = asking.rows(Session)
    is_gone = silence > asking.SILENCE_SECONDS
    assert session.is_open is not is_gone
    assert (session.last_error == state.LOST) is is_gone


def test_errors_travel_with_what_they_say():
    for kind in (RemoteError, OwnerAway):
        again = RemoteError.from_json(kind("no\0 way").to_json())
        assert (type(again), str(again), again.status) == (kind, "no\0 way", kind.status)


def test_what_a_host_says_can_be_stored():
    assert state.clean({"a": ["x\0y", 1, None, "\ud800"]}) == {"a": ["x\ufffdy", 1, None, "?"]}


@pytest.mark.servers
@pytest.mark.slow
def test_after_a_restart_syncs_are_interrupted_and_sessions_gone(sshd, tmp_path):
    there = sshd.home / "restart"
    make_run(there)
    with servers.viewer(tmp_path / "root", HOME=str(tmp_path)) as first:
        key = post(first, "/unified/connect", login_to(sshd), 409)["detail"]["host_key"]
        post(first, "/remote/known-hosts/accept", key)
        post(first, "/unified/connect", login_to(sshd))
        body = {"mode": "mirror", "remote_root": "~/restart"}
        post(first, "/unified/configure_mode", body)
        servers.wait_until((tmp_path / "root" / RUN / "logs.txt").exists, "is copied")
        first.process.kill()
    with servers.viewer(tmp_path / "root", HOME=str(tmp_path)) as second:
        (task,) = get(second, "/ssh/mirror/list")["mirrors"]
        assert (task["status"], task["alive"]) == ("interrupted", False)
        assert task["stats"]["last_error"] == state.LOST
        assert [one["connected"] for one in get(second, "/remote/sessions")["sessions"]] == [False]
        assert get(second, "/unified/status")["connected"] is False
        assert post(second, "/ssh/mirror/stop", {"task_id": task["id"]}) == {"ok": True}
        assert get(second, "/ssh/mirror/list")["mirrors"] == []


def get(server, path):
    return httpx.get(f"{server.url}/api{path}", trust_env=False).json()


def post(server, path, body, status=200):
    answer = httpx.post(f"{server.url}/api{path}", json=body, trust_env=False, timeout=60)
    assert answer.status_code == status, answer.text
    return answer.json()
