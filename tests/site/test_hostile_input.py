"""What no field may hold is refused by each of them, at every door: invalid input, never a fault.

The doors are those of ``/openapi.json``: what is declared there is what is checked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin import site

from runs.models import Project, Run
from tests.artifacts.conftest import store
from tests.runs.conftest import api, root

__all__ = ["api", "root", "store"]

HOSTILE: dict[str, list[Any]] = {
    "string": ["nul \x00", "half \ud800"],
    "integer": [2**63, -(2**63) - 1, 10**400, 1.5, "x", True],
    "number": ["x", "nan", "inf", 10**400, True],
    "boolean": ["maybe", 2, []],
    "array": ["x", 5, {}],
    "object": ["x", 5, []],
}
LEFT_OUT = ("/api/remote", "/api/ssh", "/api/unified", "/api/config/ssh_connections")


@pytest.fixture
def schema(client, api, store) -> dict[str, Any]:
    described: dict[str, Any] = client.get("/openapi.json").json()
    return described


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in schema["paths"].items():
        if not path.startswith(LEFT_OUT):
            for method, operation in methods.items():
                yield method, path, operation


def kind_of(schema: dict[str, Any], described: dict[str, Any]) -> str:
    while "$ref" in described or "allOf" in described or "oneOf" in described:
        inner = described.get("allOf") or described.get("oneOf") or [described]
        described = schema["components"]["schemas"][inner[0]["$ref"].rpartition("/")[2]]
    kinds = described.get("type", "string")
    return kinds if isinstance(kinds, str) else next(kind for kind in kinds if kind != "null")


@pytest.fixture
def address(api, root, store):
    """Fills an address, so that what it names is there."""
    run = root.run()
    root.scan()
    store.save()
    content = hashlib.sha256(b"new").hexdigest()
    plan = {"name": "net", "files": [{"path": "w", "size": 3, "digest": f"sha256:{content}"}]}
    upload = api.post("/artifact-uploads", plan, 201)["upload_id"]
    named = {
        "run_id": run.id,
        "name": "net",
        "version": "1",
        "digest": content,
        "upload_id": upload,
        "alias": "best",
        "path": "w.bin",
        "kind": "csv",
        "project": "p",
        "verb": "dismiss",
    }
    return lambda path: re.sub(r"{(\w+)}", lambda match: named[match[1]], path)


def test_query_strings(client, schema, address):
    wrong = []
    count = 0
    for method, path, operation in operations(schema):
        for parameter in operation.get("parameters", []):
            if parameter["in"] != "query" or "requestBody" in operation:
                continue  # without its body nothing else is looked at
            name = parameter["name"]
            for value in HOSTILE[kind_of(schema, parameter["schema"])]:
                text = "true" if value is True else str(value)
                if "\ud800" in text or (text == "2" and value == 2):
                    continue  # no address holds the one; the other is no word, see below
                query = urlencode({name: text})
                response = getattr(client, method)(f"{address(path)}?{query}")
                count += 1
                errors = response.json().get("errors", []) if response.status_code == 400 else []
                if not any(error["loc"][:2] == ["query", name] for error in errors):
                    wrong.append((method, path, query, response.status_code, errors))
    assert not wrong, wrong
    assert count > 60


def test_bodies(client, schema, address):
    wrong = []
    count = 0
    for method, path, operation in operations(schema):
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            continue
        reference = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for name, described in schema["components"]["schemas"][reference]["properties"].items():
            for value in HOSTILE[kind_of(schema, described)]:
                if isinstance(value, str) and kind_of(schema, described) in ("integer", "number"):
                    value = value if value == "x" else "x"
                body = json.dumps({name: value})
                response = getattr(client, method)(
                    address(path), body, content_type="application/json"
                )
                count += 1
                errors = response.json().get("errors", []) if response.status_code == 400 else []
                if not any(error["loc"][:2] == ["body", name] for error in errors):
                    wrong.append((method, path, body[:60], response.status_code, errors))
    assert not wrong, wrong
    assert count > 60


@pytest.mark.parametrize(
    "path",
    ["/?search=%00", "/?page=1&project=a%00", "/admin/?%00=1", "/admin/auth/user/?q=a%00"],
)
def test_a_page_with_a_nul_in_its_address_is_refused(client, root, path):
    assert client.get(path).status_code == 400
    for missing in ("/runs/a%00", "/artifacts/model/a%00"):
        assert client.get(missing).status_code == 404


@pytest.mark.parametrize("value", ["\x00", "9" * 30, "9" * 5000, "-1", "²"])
def test_pages_and_the_admin(client, schema, address, value):
    run = Run.objects.first()
    assert run is not None
    refused = (200, 302, 400, 404)
    for path, names in (
        ("/", ("q", "project", "status", "page", "search", "tags")),
        ("/live", ("q", "project", "status", "page")),
        ("/recycle-bin", ("page",)),
        ("/artifacts", ("q", "type", "page")),
        ("/artifacts/model/net/compare", ("from", "to")),
        (f"/runs/{run.run_id}", ("charts",)),
    ):
        for name in names:
            response = client.get(path, {name: value})
            assert response.status_code in refused, (path, name)
    for verb in ("add", "restore", "purge"):
        response = client.post(f"/recycle-bin/{verb}", {"run": value, "confirmed": "1"})
        assert response.status_code in refused, verb
    for model, admin in site._registry.items():
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        if model._meta.app_label not in ("runs", "artifacts"):
            continue
        filters = [getattr(each, "parameter_name", None) for each in admin.list_filter]
        for name in ("q", "p", "o", "id__exact", "e", *filter(None, filters)):
            response = client.get(base, {name: value})
            assert response.status_code in refused, (base, name)
        assert client.get(f"{base}{value}/change/").status_code in refused
        chosen = {"action": "soft_delete", "_selected_action": value, "confirmed": value}
        assert client.post(base, chosen).status_code in (*refused, 403), base
    assert not run.is_deleted and Project.objects.exists()
