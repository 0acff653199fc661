"""Trouble of the machine is 503, 507 for a full disk, with its name; a bug stays a 500."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.runs.conftest import root

from .troubles import bugs, troubles

__all__ = ["root"]

pytestmark = [pytest.mark.urls("tests.site.urls"), pytest.mark.django_db]


LOCAL = {"host": "127.0.0.1:23300"}
DOORS = ["/api/test/trouble/", "/test/trouble/", "middleware of the API", "middleware of pages"]


@pytest.mark.parametrize("name", troubles)
def test_trouble_has_a_name_at_every_door(browser: Client, root, settings, name: str) -> None:
    _, status, may_pass = troubles[name]
    for door in DOORS:
        response = ask(browser, settings, door, name)
        assert response.status_code == status
        assert response.has_header("Retry-After") == may_pass
        if "API" in door.upper():
            assert response.json()["detail"].endswith((".", ")."))
        else:
            assert "<h1>This is not possible just now</h1>" in response.content.decode()


@pytest.mark.parametrize("name", bugs)
def test_a_bug_is_no_trouble(browser: Client, root, settings, name: str) -> None:
    (root.path / "something").touch()
    for door in DOORS:
        response = ask(browser, settings, door, name)
        assert response.status_code == 500
        assert not response.has_header("Retry-After")


def test_a_missing_file_is_trouble_where_the_whole_folder_is(browser: Client, root) -> None:
    root.path.rmdir()
    for door in ("/api/test/trouble/", "/test/trouble/"):
        response = browser.get(f"{door}a missing file")
        assert response.status_code == 503
        assert "The storage folder of this server is not there" in response.content.decode()


def test_the_page_of_trouble_is_translated(browser: Client, root) -> None:
    response = browser.get("/test/trouble/ENOSPC", headers={"Accept-Language": "zh-hans"})
    assert "服务器磁盘已满" in response.content.decode()


def ask(browser: Client, settings, door: str, name: str):
    if door.startswith("/"):
        return browser.get(f"{door}{name}")
    outermost = "tests.site.urls.Troubled"
    settings.MIDDLEWARE = [outermost, *(m for m in settings.MIDDLEWARE if m != outermost)]
    path = "/api/health" if "API" in door else "/"
    return Client(raise_request_exception=False, headers=LOCAL).get(
        path, headers={"Fail-With": name}
    )
