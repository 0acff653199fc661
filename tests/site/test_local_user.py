"""The local user (``local_user.py``): no password at the machine, one from any other."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client

from core.http.local_user import USERNAME, local_user

pytestmark = [pytest.mark.urls("tests.site.urls"), pytest.mark.django_db]


def whoami(client: Client, **headers: str) -> str:
    return client.get("/api/test/echo", headers=headers).json()["user"]


def test_the_admin_opens_without_a_password(browser: Client) -> None:
    response = browser.get("/admin/password_change/")
    assert response.status_code == 200
    user = get_user_model().objects.get()
    assert user.is_superuser
    assert not user.has_usable_password()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("192.0.2.7", {}),
        ("192.0.2.7", {"x-forwarded-for": "127.0.0.1"}),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}),
        ("127.0.0.1", {"x-forwarded-proto": "https"}),
        ("127.0.0.1", {"forwarded": "for=192.0.2.7"}),
        ("127.0.0.1", {"via": "1.1 proxy"}),
        ("127.0.0.1", {"host": "testserver"}),
        ("", {}),
        ("::ffff:192.0.2.7", {}),
    ],
)
def test_from_elsewhere_it_asks_for_one(browser: Client, peer: str, headers: dict) -> None:
    response = browser.get("/admin/", REMOTE_ADDR=peer, headers=headers)
    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/")
    assert browser.get("/api/test/echo", REMOTE_ADDR=peer, headers=headers).json() == {
        "user": "AnonymousUser"
    }


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_every_loopback_address_is_this_machine(browser: Client, peer: str) -> None:
    assert browser.get("/api/test/echo", REMOTE_ADDR=peer).json() == {"user": USERNAME}


def test_behind_a_trusted_proxy_its_word_counts(browser: Client, settings) -> None:
    settings.RUNICORN_TRUSTED_PROXIES = ["127.0.0.1"]
    assert whoami(browser, **{"x-forwarded-for": "192.0.2.7"}) == "AnonymousUser"
    assert whoami(browser, **{"x-forwarded-for": "127.0.0.1, 192.0.2.7"}) == "AnonymousUser"
    assert whoami(browser, **{"x-forwarded-for": "127.0.0.1"}) == USERNAME


def test_a_team_server_knows_no_owner(browser: Client, settings) -> None:
    settings.RUNICORN_LOCAL_USER = False
    assert whoami(browser) == "AnonymousUser"


def test_whoever_logged_in_is_who_acts(browser: Client) -> None:
    browser.force_login(get_user_model().objects.create_user("ada"))
    assert whoami(browser) == "ada"


def test_the_user_is_looked_up_only_when_asked_for(
    browser: Client, django_assert_num_queries
) -> None:
    with django_assert_num_queries(0):
        assert browser.get("/api/health").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_first_requests_at_once_make_one_owner() -> None:
    def make(_: int) -> int:
        try:
            return local_user().pk
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(make, range(16)))) == 1
