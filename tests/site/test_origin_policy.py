"""Access of web pages: Host, Origin, CORS, and the headers of pages (``origin_policy.py``)."""

import pytest
from django.test import Client

pytestmark = pytest.mark.urls("tests.site.urls")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:23300"]
)
def test_a_foreign_host_is_refused(browser: Client, host: str) -> None:
    response = browser.get("/api/health", headers={"host": host})
    assert response.status_code == 400
    assert response.json().keys() == {"detail"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:23300", "[::1]:23300"])
def test_loopback_names_are_served(browser: Client, host: str) -> None:
    assert browser.get("/api/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:23300", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://localhost:5173", "sec-fetch-site": "cross-site"}, 200),
        ({"origin": "http://[::1]:8080"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://localhost.evil.example"}, 403),
        ({"origin": "http://localhost:5173.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[bad"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "none"}, 200),
    ],
)
def test_only_own_pages_may_change_things(browser: Client, headers: dict, status: int) -> None:
    response = browser.post("/api/test/echo", {}, content_type="application/json", headers=headers)
    assert response.status_code == status


def test_reading_across_sites_is_left_to_cors(browser: Client) -> None:
    response = browser.get("/api/health", headers={"origin": "https://evil.example"})
    assert response.status_code == 200
    assert "Access-Control-Allow-Origin" not in response


def test_a_configured_site_may(browser: Client, settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://lab.example"]
    headers = {"origin": "https://lab.example"}
    response = browser.post("/api/test/echo", {}, content_type="application/json", headers=headers)
    assert response.status_code == 200
    assert response["Access-Control-Allow-Origin"] == "https://lab.example"


def test_every_site_may_if_the_operator_says_so(browser: Client, settings) -> None:
    settings.CORS_ALLOW_ALL_ORIGINS, settings.CORS_ALLOW_CREDENTIALS = True, False
    headers = {"origin": "https://any.example"}
    response = browser.post("/api/test/echo", {}, content_type="application/json", headers=headers)
    assert response.status_code == 200
    assert response["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in response


def test_a_preflight_is_answered_as_by_v04(browser: Client) -> None:
    headers = {
        "origin": "http://localhost:5173",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-any",
    }
    response = browser.options("/api/runs", headers=headers)
    assert (response.status_code, response.content) == (200, b"OK")
    expected = {
        "Content-Type": "text/plain; charset=utf-8",
        "Access-Control-Allow-Origin": "http://localhost:5173",
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Methods": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
        "Access-Control-Allow-Headers": "content-type,x-any",
        "Access-Control-Max-Age": "600",
        "Vary": "origin",
    }
    assert {name: response[name] for name in expected} == expected
    refused = browser.options("/api/runs", headers=headers | {"origin": "https://evil.example"})
    assert "Access-Control-Allow-Headers" not in refused


def test_what_is_served_may_not_run_foreign_scripts(browser: Client) -> None:
    response = browser.get("/docs")
    assert "default-src 'self'" in response["Content-Security-Policy"]
    assert "script-src" not in response["Content-Security-Policy"]
    assert response["X-Frame-Options"] == "DENY"
    assert response["X-Content-Type-Options"] == "nosniff"
