"""Every error is ``{"detail": …}`` (``errors.py``)."""

import pytest
from django.test import Client

pytestmark = pytest.mark.urls("tests.site.urls")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/api/nothing", 404, None),
        ("POST", "/api/nothing", 405, "GET, HEAD"),
        ("GET", "/api/health/", 404, None),
        ("GET", "/api/runs/%2e%2e%2fx", 404, None),
        ("GET", "/api/runs/%00", 404, None),
        ("POST", "/api/health", 405, "GET, HEAD"),
        ("OPTIONS", "/api/health", 405, "GET, HEAD"),
        ("GET", "/api/test/validate", 404, None),
        ("DELETE", "/api/test/validate", 405, "POST"),
    ],
)
@pytest.mark.django_db
def test_what_no_route_serves(
    browser: Client, method: str, path: str, status: int, allow: str | None
) -> None:
    response = browser.generic(method, path)
    assert response.status_code == status
    assert response.headers.get("Allow") == allow or status == 404
    detail = response.json()["detail"]
    assert (
        detail == "Method Not Allowed" if status == 405 else detail.endswith(("ound", "not found"))
    )


def test_head_is_not_served(browser: Client) -> None:
    assert browser.head("/api/health").status_code == 404


def test_a_crash_is_told_without_its_reason(
    browser: Client, caplog: pytest.LogCaptureFixture
) -> None:
    response = browser.get("/api/test/crash")
    assert response.status_code == 500
    assert response.json().keys() == {"detail"}
    assert b"12345" not in response.content
    assert "12345" in caplog.text


def test_pages_have_pages_for_errors(browser: Client) -> None:
    response = browser.get("/nothing")
    assert (response.status_code, response["Content-Type"]) == (404, "text/html; charset=utf-8")
