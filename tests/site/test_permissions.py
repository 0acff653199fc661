"""Who may come in, and what they may change: the same rights at every door."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from core import access
from core.access import Right
from runs.ingest import folder_source
from runs.models import Run
from tests.runs.conftest import api, root

__all__ = ["api", "root"]

EVERYBODY = {"api/health", "openapi.json", "docs", "redoc", "favicon.ico"}
"""What answers whoever asks."""

READS = ("get", "head", "options")


def routes(patterns: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return (address, view) of every route but the admin's, which asks for a login."""
    for entry in get_resolver().url_patterns if patterns is None else patterns:
        address = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            if not address.startswith(("admin/", "i18n/")):
                yield from routes(entry.url_patterns, address)
        elif isinstance(entry, URLPattern) and address != "admin":
            yield address, entry.callback


API = [(address, view) for address, view in routes() if hasattr(view, "cls")]
PAGES = [(address, view) for address, view in routes() if not hasattr(view, "cls")]
METHODS = [
    (address, view, method)
    for address, view in API
    for method in ("get", "post", "put", "patch", "delete")
    if hasattr(view.cls, method)
]


def filled(address: str) -> str:
    return "/" + re.sub(r"<(\w+):\w+>", lambda m: "1" if m[1] == "int" else "x", address)


@pytest.fixture
def answers():
    yield access.answer_with
    access.answer_with()


def says_who(view: Any) -> bool:
    ours = [cls for cls in view.cls.__mro__ if not cls.__module__.startswith("rest_framework.")]
    is_said = any("permission_classes" in cls.__dict__ for cls in ours)
    return is_said or "permission_classes" in view.initkwargs


def test_each_view_says_who_may_come_in():
    assert len(API) > 70
    assert [address for address, view in API if not says_who(view)] == []


def test_who_has_no_rights_is_refused_everywhere(client, answers, root):
    answers(may=lambda user, right: False)
    for address, _, method in METHODS:
        response = getattr(client, method)(filled(address), content_type="application/json")
        expected = 200 if address in EVERYBODY else 403
        assert response.status_code == expected, (method, address, response.content)
    for address, _ in PAGES:
        statuses = [
            getattr(client, method)(filled(address)).status_code for method in ("get", "post")
        ]
        assert (302 if address in EVERYBODY else 403) in statuses, (address, statuses)
        assert address in EVERYBODY or set(statuses) <= {403, 405}, (address, statuses)


ASK_WITH_A_BODY = {
    ("post", "api/v2/metrics/query"),
    ("post", "api/artifacts/<str:name>/v<str:version>/verify"),
    ("post", "api/config/column-widths"),
    ("delete", "api/config/column-widths"),
    ("post", "api/config/dismissed-alerts/<str:verb>"),
}
"""What needs no more than the right to see, though it is no GET."""


OF_OTHER_HOSTS = ("api/config/ssh_connections", "api/remote", "api/ssh", "api/unified")
"""Saved logins are the owner's, and looking at a host uses one: no matter of seeing runs."""


def test_who_may_only_see_changes_nothing(client, answers, root):
    answers(may=lambda user, right: right is Right.SEE)
    for address, _, method in METHODS:
        response = getattr(client, method)(filled(address), content_type="application/json")
        if method not in READS and (method, address) not in ASK_WITH_A_BODY:
            assert response.status_code == 403, (method, address, response.content)
            assert response.json() == {"detail": response.json()["detail"]}
        elif not address.startswith(OF_OTHER_HOSTS):
            assert response.status_code != 403, (method, address)


@pytest.fixture
def mine_and_theirs(root, answers):
    """Two runs that are seen, of which one may be changed and purged."""
    mine, theirs = root.run("mine"), root.run("theirs")
    root.scan()
    seen: list[Right] = []

    def rows(queryset: Any, user: Any, right: Right) -> Any:
        seen.append(right)
        if queryset.model is Run and right is not Right.SEE:
            return queryset.filter(project__name="mine")
        return queryset.all()

    answers(rows=rows)
    return mine, theirs


MISSING = "20260101_000000_ffffff"


def in_bin(*runs: Any) -> list[bool]:
    return [Run.objects.get(run_id=run.id).is_deleted for run in runs]


def test_what_one_may_not_change_is_answered_like_what_is_not_there(api, mine_and_theirs):
    mine, theirs = mine_and_theirs
    assert sorted(api.ids()) == sorted([mine.id, theirs.id])
    answer = api.post(
        "/runs/soft-delete", {"run_ids": [mine.id, theirs.id, "20260101_000000_ffffff"]}
    )
    results = answer["results"]
    assert results[mine.id] == {"success": True}
    assert results[theirs.id] == results["20260101_000000_ffffff"]
    assert in_bin(mine, theirs) == [True, False]
    answer = api.post("/v2/experiments/batch-delete", {"exp_ids": [theirs.id]})
    assert answer["results"] == {theirs.id: False}
    refused = api.client.patch(
        f"/api/runs/{theirs.id}", {"notes": "x"}, content_type="application/json"
    )
    missing = api.client.patch("/api/runs/nowhere", {"notes": "x"}, content_type="application/json")
    assert (refused.status_code, refused.content) == (404, missing.content)


def test_the_recycle_bin_is_emptied_of_what_one_may_purge(api, client, mine_and_theirs):
    mine, theirs = mine_and_theirs
    for run in (mine, theirs):
        run.write(".deleted", {"deleted_at": 5.0, "reason": "x"})
        folder_source.refresh(Run.objects.get(run_id=run.id))
    assert in_bin(mine, theirs) == [True, True]
    key = Run.objects.get(run_id=theirs.id).pk
    client.post("/recycle-bin/restore", {"run": [key]})
    client.post("/recycle-bin/purge", {"run": [key], "confirmed": "1"})
    assert api.post("/recycle-bin/restore", {"run_ids": [theirs.id]})["restored_count"] == 0
    assert in_bin(mine, theirs) == [True, True]
    assert api.post("/recycle-bin/empty", {"confirm": True})["permanently_deleted"] == 1
    assert theirs.path.exists()
    assert not mine.path.exists()


@pytest.mark.parametrize("action", ["soft_delete", "delete"])
def test_the_admin_changes_what_one_may_change(client, mine_and_theirs, action):
    mine, theirs = mine_and_theirs
    keys = {run.id: Run.objects.get(run_id=run.id).pk for run in (mine, theirs)}
    if action == "delete":
        for run in (mine, theirs):
            key = keys[run.id]
            address = f"/admin/runs/run/{key}/delete/"
            status = client.post(address, {"confirmed": str(key)}).status_code
            assert status == (302 if run is mine else 403)
    else:
        selected = {"action": action, "_selected_action": list(keys.values())}
        question = client.post("/admin/runs/run/", selected)
        assert question.context["confirmed"] == str(keys[mine.id])
        confirmed = {**selected, "confirmed": ",".join(map(str, keys.values()))}
        client.post("/admin/runs/run/", confirmed)
    assert in_bin(mine, theirs) == [True, False]
    change = client.get(f"/admin/runs/run/{keys[theirs.id]}/change/")
    assert 'name="notes"' not in change.content.decode()
