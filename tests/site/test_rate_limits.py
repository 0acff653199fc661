"""Rate limits over HTTP (``rate_limits.py``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.test import Client

from core.http import rate_limits
from tests.servers import redis

Configure = Callable[[object], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass without waiting."""
    passed = 0.0
    monotonic, wall = time.monotonic, time.time
    monkeypatch.setattr(rate_limits.time, "monotonic", lambda: monotonic() + passed)
    monkeypatch.setattr(rate_limits.time, "time", lambda: wall() + passed)

    def advance(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    return advance


def ask(client: Client, times: int = 1, path: str = "/api/health", **extra: object) -> HttpResponse:
    for _ in range(times):
        response = client.get(path, **extra)
    return response


def counted(response: HttpResponse) -> tuple[int, str, str, str]:
    names = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
    return (response.status_code, *(response[name] for name in names))


def test_sixty_a_minute_and_then_429(browser: Client) -> None:
    assert counted(ask(browser)) == (200, "60", "59", "60")
    assert counted(ask(browser, 59)) == (200, "60", "0", "60")
    response = ask(browser)
    assert counted(response) == (429, "60", "0", "60")
    assert response["Retry-After"] == "60"
    assert response.content == b'{"detail":"Rate limit exceeded","retry_after":60}'


def test_the_window_slides(browser: Client, clock: Callable[[float], None]) -> None:
    ask(browser, 30)
    clock(40)
    assert counted(ask(browser, 30)) == (200, "60", "0", "20")
    clock(19.5)
    assert counted(ask(browser))[0] == 429  # and is not counted itself
    clock(1)
    assert counted(ask(browser)) == (200, "60", "29", "40")


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("GET", "/api/runs", "100"),
        ("POST", "/api/runs/soft-delete", "20"),
        ("POST", "/api/recycle-bin/empty", "5"),
        ("GET", "/api/recycle-bin", "60"),
        ("GET", "/api/runs/20250101_000000_abcdef/metrics", "60"),
        ("GET", "/api/nothing", "60"),
        ("DELETE", "/api/runs", "60"),
    ],
)
@pytest.mark.django_db
def test_the_documented_limits(browser: Client, method: str, path: str, limit: str) -> None:
    assert browser.generic(method, path)["X-RateLimit-Limit"] == limit


@pytest.mark.django_db
def test_every_endpoint_and_every_client_counts_for_itself(browser: Client, settings) -> None:
    settings.RUNICORN_TRUSTED_PROXIES = ["127.0.0.0/8"]
    ask(browser, 60)
    assert ask(browser).status_code == 429
    assert ask(browser, path="/api/recycle-bin")["X-RateLimit-Remaining"] == "59"
    assert ask(browser, headers={"x-forwarded-for": "203.0.113.9"}).status_code == 200


def test_the_runs_of_all_ids_share_one_bucket(db: None, browser: Client) -> None:
    ask(browser, path="/api/runs/a")
    assert ask(browser, path="/api/runs/b")["X-RateLimit-Remaining"] == "58"


def test_forwarded_addresses_count_only_from_trusted_proxies(browser: Client, settings) -> None:
    ask(browser, headers={"x-forwarded-for": "203.0.113.9"})
    response = ask(browser, headers={"x-forwarded-for": "203.0.113.10"})
    assert response["X-RateLimit-Remaining"] == "58"
    settings.RUNICORN_TRUSTED_PROXIES = ["127.0.0.1", "10.0.0.0/8"]
    # What the client claims stands on the left; what our proxies saw, on the right.
    for claimed in ("198.51.100.1", "198.51.100.2"):
        hops = f"{claimed}, 203.0.113.9, 10.1.2.3"
        response = ask(browser, headers={"x-forwarded-for": hops})
    assert response["X-RateLimit-Remaining"] == "58"


@pytest.mark.slow
def test_options_and_pages_are_not_counted(browser: Client) -> None:
    for response in (browser.options("/api/health"), browser.get("/openapi.json")):
        assert "X-RateLimit-Limit" not in response


def test_head_and_unknown_methods_share_the_default_bucket(browser: Client) -> None:
    browser.head("/api/health")
    assert browser.generic("BREW", "/api/nothing")["X-RateLimit-Remaining"] == "58"


def test_the_file_is_read_while_serving(browser: Client, configure: Configure) -> None:
    assert ask(browser)["X-RateLimit-Limit"] == "60"
    configure(
        {
            "default": {"max_requests": 1000, "window_seconds": 30},
            "endpoints": {"/api/recycle-bin": {"max_requests": 7, "methods": ["POST"]}},
            "settings": {"custom_headers": {"rate_limit_header": "X-Limit"}},
        }
    )
    response = ask(browser)
    assert response["X-Limit"] == "1000"
    assert response["X-RateLimit-Reset"] == "30"
    assert browser.post("/api/recycle-bin/restore")["X-Limit"] == "7"
    assert browser.post("/api/recycle-bin-other")["X-Limit"] == "1000"
    assert browser.post("/api/runs/soft-delete")["X-Limit"] == "20"
    configure({})
    assert ask(browser)["X-RateLimit-Limit"] == "60"


def test_the_file_is_looked_at_once_a_second(
    browser: Client, configure: Configure, clock: Callable[[float], None]
) -> None:
    configure({"default": {"max_requests": 5}})
    assert ask(browser)["X-RateLimit-Limit"] == "5"
    path = rate_limits.layout.user_config_dir() / "rate_limits.json"
    path.write_text('{"default": {"max_requests": 50}}')
    assert ask(browser)["X-RateLimit-Limit"] == "5"
    clock(1.1)
    assert ask(browser)["X-RateLimit-Limit"] == "50"
    path.unlink()
    clock(1.1)
    assert ask(browser)["X-RateLimit-Limit"] == "60"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("{", "Expecting"),
        ([], "Configuration must be a dictionary"),
        ({"default": {"max_requests": "5"}}, "max_requests must be an integer"),
        ({"endpoints": {"/a": {"window_seconds": 0}}}, "/a: window_seconds must be positive"),
        ({"endpoints": {"a": {}}}, "Endpoint 'a' must start with /"),
        ({"endpoints": []}, "endpoints must be a dictionary"),
        ({"endpoints": {"/a": {"methods": ["GOT"]}}}, "/a: unknown method 'GOT'"),
        ({"settings": {"custom_headers": {"rate_limit_header": "a\nb"}}}, "no header name"),
    ],
)
def test_a_bad_file_is_named_and_changes_nothing(
    browser: Client, configure: Configure, caplog: pytest.LogCaptureFixture, config, reason: str
) -> None:
    configure({"default": {"max_requests": 5}})
    ask(browser)
    configure(config)
    assert ask(browser)["X-RateLimit-Limit"] == "5"
    assert reason in caplog.text


def test_a_burst_is_refused_for_a_second(
    browser: Client, configure: Configure, clock: Callable[[float], None]
) -> None:
    configure({"default": {"max_requests": 10, "burst_size": 3}})
    ask(browser, 3)
    response = ask(browser)
    assert counted(response) == (429, "10", "0", "1")
    assert response.json()["retry_after"] == 1
    clock(1.1)
    assert counted(ask(browser)) == (200, "10", "6", "59")


@pytest.mark.parametrize(
    "options", [{"enable_rate_limiting": False}, {"whitelist_localhost": True}]
)
def test_switched_off_nothing_is_counted(
    browser: Client, configure: Configure, options: dict
) -> None:
    configure({"default": {"max_requests": 2}, "settings": options})
    assert counted(ask(browser, 5)) == (200, "2", "2", "60")


def test_violations_are_logged_unless_unwanted(
    browser: Client, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "runicorn")
    configure({"default": {"max_requests": 1}})
    ask(browser, 2)
    assert "127.0.0.1 /api/health" in caplog.text
    caplog.clear()
    configure({"default": {"max_requests": 1}, "settings": {"log_violations": False}})
    assert ask(browser, 2).status_code == 429
    assert not caplog.text


def test_many_clients_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits.BoundedMemoryStorage, "MAX_WINDOWS", 100)
    storage = rate_limits.BoundedMemoryStorage()
    for client in range(1000):
        assert storage.acquire_entry(str(client), 1, 60)
    assert len(storage._windows) == 100
    assert not storage.acquire_entry("999", 1, 60)


def test_a_counter_out_of_reach_stops_nobody(
    browser: Client, settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.RUNICORN_RATE_LIMIT_STORAGE_URI = "redis://127.0.0.1:1"
    assert counted(ask(browser)) == (200, "60", "60", "60")
    assert "not counted" in caplog.text


@pytest.mark.servers
def test_processes_can_share_their_counts(browser: Client, settings) -> None:
    with redis() as settings.RUNICORN_RATE_LIMIT_STORAGE_URI:
        assert counted(ask(browser)) == (200, "60", "59", "60")
        rate_limits.limiter.cache_clear()  # another process
        assert counted(ask(browser, 59)) == (200, "60", "0", "60")
        assert counted(ask(browser)) == (429, "60", "0", "60")


def test_a_page_can_read_its_429(browser: Client) -> None:
    ask(browser, 60)
    response = ask(browser, headers={"origin": "http://localhost:5173"})
    assert response.status_code == 429
    assert response["Access-Control-Allow-Origin"] == "http://localhost:5173"


@pytest.mark.django_db
def test_who_has_signed_in_is_counted_wherever_he_asks_from(settings) -> None:
    settings.RUNICORN_TRUSTED_PROXIES = ["127.0.0.1"]
    client = Client(headers={"host": "localhost"})
    client.force_login(get_user_model().objects.create_user("ada"))
    for number in range(3):
        elsewhere = {"headers": {"x-forwarded-for": f"192.0.2.{number}"}}
        response = ask(client, **elsewhere)
        assert response["X-RateLimit-Remaining"] == str(59 - number)
    stranger = Client(headers={"host": "localhost", "x-forwarded-for": "192.0.2.1"})
    assert ask(stranger)["X-RateLimit-Remaining"] == "59"


@pytest.mark.django_db
def test_guessing_passwords_ends_after_ten(settings, clock: Callable[[float], None]) -> None:
    settings.RUNICORN_TRUSTED_PROXIES = ["127.0.0.1"]
    get_user_model().objects.create_superuser("ada", password="right")

    def sign_in(password: str, address: str = "192.0.2.1") -> HttpResponse:
        client = Client(headers={"host": "localhost", "x-forwarded-for": address})
        return client.post("/admin/login/", {"username": "ada", "password": password})

    assert [sign_in("wrong").status_code for _ in range(10)] == [200] * 10
    refused = sign_in("right")
    assert refused.status_code == 429
    assert int(refused["Retry-After"]) <= 60
    assert sign_in("right", "192.0.2.2").status_code == 302
    clock(61)
    assert sign_in("right").status_code == 302
