"""JSON as it comes in and goes out (``rest.py``)."""

import json
import math

import pytest
from django.test import Client

from core.http.rest import dump_json

pytestmark = pytest.mark.urls("tests.site.urls")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"a": 1, "b": [1.5, None, True]}, '{"a":1,"b":[1.5,null,true]}'),
        ({"名": "é🦄"}, '{"名":"é🦄"}'),
        ([math.nan, math.inf, -math.inf], "[null,null,null]"),
        ([2**80, math.nan], f"[{2**80},null]"),
        ({"deep": [{"x": (2**64, -math.inf)}]}, f'{{"deep":[{{"x":[{2**64},null]}}]}}'),
        ("\ud800", '"\\ud800"'),
        ({1: "a"}, '{"1":"a"}'),
    ],
)
def test_answers_are_compact_and_valid_json(data: object, text: str) -> None:
    assert dump_json(data).decode() == text
    json.loads(text, parse_constant=pytest.fail)


def test_the_content_type_has_no_charset_whatever_the_client_accepts(browser: Client) -> None:
    for accept in ("*/*", "text/html", "application/json; indent=4"):
        response = browser.get("/api/health?format=yaml", headers={"accept": accept})
        assert (response.status_code, response["Content-Type"]) == (200, "application/json")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/x+json"])
def test_an_object_is_read(browser: Client, content_type: str) -> None:
    body = '{"名": [1, 2.5, null], "big": 123456789012345678901234567890}'
    for send in (browser.post, browser.put):
        response = send("/api/test/echo", body, content_type=content_type)
        assert response.json() == json.loads(body)


@pytest.mark.parametrize(
    ("body", "content_type", "loc", "msg"),
    [
        ("", "application/json", ["body"], "Field required"),
        ("[1]", "application/json", ["body"], "Input should be a valid dictionary"),
        ("null", "application/json", ["body"], "Input should be a valid dictionary"),
        ("{}", "text/plain", ["body"], "Input should be a valid dictionary"),
        (
            "a=1",
            "application/x-www-form-urlencoded",
            ["body"],
            "Input should be a valid dictionary",
        ),
        ('{"a": }', "application/json", ["body", 6], "JSON decode error"),
        (b'{"a": "\xff"}', "application/json", ["body", 7], "JSON decode error"),
        ("[" * 100_000, "application/json", ["body", 0], "JSON decode error"),
    ],
)
def test_anything_else_is_a_400_that_says_where(
    browser: Client, body: str | bytes, content_type: str, loc: list, msg: str
) -> None:
    response = browser.post("/api/test/echo", body, content_type=content_type)
    assert response.status_code == 400
    assert response.json()["errors"] == [{"loc": loc, "msg": msg}]
    assert isinstance(response.json()["detail"], str)


def test_a_body_beyond_the_limit_is_a_413(browser: Client, settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    body = json.dumps({"a": "x" * 200})
    for send in (browser.post, browser.put):
        response = send("/api/test/echo", body, content_type="application/json")
        assert response.status_code == 413
        assert response.json() == {"detail": "The request body is too large."}


def test_a_serializers_complaints_become_places(browser: Client) -> None:
    body = {"count": 0, "names": ["a", []]}
    response = browser.post("/api/test/validate", body, content_type="application/json")
    assert response.status_code == 400
    assert [error["loc"] for error in response.json()["errors"]] == [
        ["body", "count"],
        ["body", "names", 1],
    ]
    response = browser.post("/api/test/validate", {"count": 1}, content_type="application/json")
    assert response.json() == {
        "detail": "names: Field required",
        "errors": [{"loc": ["body", "names"], "msg": "Field required"}],
    }
