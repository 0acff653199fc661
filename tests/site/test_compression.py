"""Which compression an answer has: what ``Accept-Encoding`` says, with its weights."""

from __future__ import annotations

import gzip

import pytest
from django.test import Client, RequestFactory

from artifacts import encodings
from core.http import compression


@pytest.mark.parametrize(
    ("header", "is_compressed"),
    [
        ("gzip", True),
        ("GZip ; Q=0.5", True),
        ("br, gzip;q=0.001", True),
        ("*", True),
        ("identity;q=0, *", True),
        ("gzip;q=1.000, identity;q=0.5", True),
        ("", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip; q=0, *", False),
        ("*;q=0", False),
        ("identity", False),
        ("identity;q=0", False),
        ("gzip;q=0.4, identity;q=0.5", False),
        ("gzip;q=2", False),
        ("gzip;level=9", False),
        ("notgzip, gzip2", False),
    ],
)
def test_json_is_compressed_for_who_accepts_that(
    browser: Client, monkeypatch: pytest.MonkeyPatch, header: str, is_compressed: bool
) -> None:
    monkeypatch.setattr(compression, "LARGEST_ON_LOOPBACK", 1 << 30)
    response = browser.get(
        "/openapi.json", headers={"Accept-Encoding": header, "Host": "localhost"}
    )
    assert response.status_code == 200
    assert response.has_header("Content-Encoding") == is_compressed
    assert "Accept-Encoding" in response["Vary"]
    content = gzip.decompress(response.content) if is_compressed else response.content
    assert content.startswith(b"{")


@pytest.mark.parametrize(
    ("header", "is_accepted"),
    [
        ("zstd", True),
        ("gzip, zstd;q=0.1", True),
        ("zstd;q=0", False),
        ("zstd;q=0.0", False),
        ("*", False),  # by name only: few can read it
        ("gzip", False),
    ],
)
def test_zstd_must_be_asked_for(header: str, is_accepted: bool) -> None:
    request = RequestFactory().get("/", headers={"Accept-Encoding": header})
    assert encodings.accepts_zstd(request) == is_accepted
