from __future__ import annotations

import re
from contextlib import closing
from urllib.parse import urljoin

import pytest
from django.test import Client

import runicorn


def test_health_asks_no_database(browser: Client) -> None:
    """Without the ``db`` fixture every query would fail the test."""
    health = browser.get("/api/health").json()
    assert health["status"] == "ok"
    assert health["version"] == runicorn.__version__
    assert health["timestamp"] > 1.7e9
    assert health["cache"].keys() == {"enabled", "hit_rate", "hits", "misses", "size", "max_size"}
    assert health["ingest"].keys() >= {"state", "found", "indexed"}


@pytest.fixture
def schema(browser: Client, capsys: pytest.CaptureFixture[str]) -> dict:
    response = browser.get("/openapi.json")
    assert response["Content-Type"] == "application/json"
    assert capsys.readouterr().err == "", "the schema cannot be derived from every view"
    return response.json()


def test_the_schema_presents_itself_as_v04_did(schema: dict) -> None:
    assert schema["openapi"] == "3.1.0"
    assert schema["info"]["title"] == "Runicorn Viewer"
    assert schema["info"]["version"] == runicorn.__version__
    first, *more = schema["info"]["description"].splitlines()
    assert first == "Local experiment tracking and visualization platform"
    assert "/api/runs/{run_id}/logs/ws" in " ".join(more)


def test_every_operation_names_its_errors(schema: dict) -> None:
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            assert "Retry-After" in responses["429"]["headers"], (method, path)
            assert ("404" in responses) >= ("{" in path), (method, path)
            assert ("400" in responses) >= ("requestBody" in operation), (method, path)
            assert operation["tags"], (method, path)
            assert operation["operationId"], (method, path)


@pytest.mark.django_db
def test_the_schema_names_exactly_what_is_served(schema: dict, browser: Client) -> None:
    """Every method of every path: what is in the schema answers, what is not is refused."""
    for path, operations in schema["paths"].items():
        address = re.sub(r"{\w+}", "20250101_000000_abcdef", path)
        for method in ("get", "post", "put", "patch", "delete"):
            response = browser.generic(method.upper(), address)
            if method in operations:
                assert str(response.status_code) in operations[method]["responses"], (method, path)
            elif method != "get":
                assert response.status_code == 405, (method, path)


@pytest.mark.django_db  # closing a file's response looks at the connection
@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_browsable_pages_need_no_network(browser: Client, path: str) -> None:
    response = browser.get(path)
    assert response.status_code == 200
    page = response.content.decode()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    for source in re.findall(r'<script src="([^"]+)"', page):
        with closing(browser.get(urljoin(path, source))) as script:
            assert script.status_code == 200, source
    assert not re.search(r"<script>", page), "the Content-Security-Policy would stop it"
