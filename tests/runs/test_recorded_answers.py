"""Every recorded request of the modules served here gets the answer that Runicorn 0.4.0 gave.

Where the contract's conflict register or the design says otherwise, ``EXPECTED`` says what.
"""

from __future__ import annotations

import base64
import http.client
import json
import math
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests import v04
from tests.servers import Viewer, viewer

SERVED = re.compile(
    r"/api/(runs|v2|recycle-bin|health|no-such-endpoint|status|config|projects|experiments|export"
    r"|environment|import|gpu)\b"
)

NOW = {"$.timestamp", "$.deleted_runs[].deleted_at"}
FREE = {"pid", "cache", "query_time_ms"}


def records() -> list[dict[str, Any]]:
    assets = {
        run["id"]
        for run in json.loads((v04.DATA / "catalog.json").read_text())["runs"].values()
        if run["project"] == "assets"
    }
    return [
        record
        for record in v04.golden()
        if SERVED.match(record["path"])
        # The artifacts of runs that have some come with the artifacts module.
        and not (record["path"].endswith("/artifacts") and record["path"].split("/")[3] in assets)
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    storage = v04.unpack_storage(tmp_path_factory.mktemp("recorded"))
    documented = {"_comment": "the documented limits"}
    with viewer(storage, rate_limits=documented, RUNICORN_TRUSTED_PROXIES="127.0.0.1") as started:
        yield started


@pytest.mark.slow
def test_recorded_answers(server):
    """One test for all: the records change the storage one after the other."""
    wrong = []
    asked = records()
    for number, record in enumerate(asked):
        expected = _expected(server.storage, record)
        status, answer = _ask(server, record, number)
        for difference in _differences(server, record, expected, status, answer):
            wrong.append(f"{record['name']}: {difference}")
    assert len(asked) > 540
    assert not wrong, "\n".join(wrong)


def _ask(server: Viewer, record: dict[str, Any], number: int) -> tuple[int, Any]:
    fs = record.get("fs")
    if record["method"] == "WS":
        return _listen(server, record, number)
    if fs:
        _touch(server.storage, fs)
    for _ in range(record.get("repeat", 1)):
        answer = _send(server, record, number)
    return answer


def _here(server: Viewer, text: str) -> str:
    """*text* with the recorded paths as they are here."""
    return text.replace("/srv/runicorn/", f"{server.storage.parent}/")


def undated(text: str) -> str:
    return re.sub(r"(Generated:|Export -) .*", "", text)


def _form(part: dict[str, str]) -> tuple[bytes, str]:
    head = (
        f'--part\r\nContent-Disposition: form-data; name="{part["field"]}"; '
        f'filename="{part["filename"]}"\r\nContent-Type: application/octet-stream\r\n\r\n'
    )
    content = base64.b64decode(part["content_b64"])
    return head.encode() + content + b"\r\n--part--\r\n", "multipart/form-data; boundary=part"


def _touch(root: Path, fs: dict[str, str]) -> None:
    with (root / fs["file"]).open(
        {"append": "a", "write": "w"}[fs["op"]], encoding="utf-8"
    ) as file:
        file.write(fs["text"])


def _client(number: int) -> str:
    return f"10.1.{number // 250}.{number % 250 + 1}"


OWNERS = ("/api/config/ssh_connections", "/api/config/user_root_dir")
"""What only the owner of the server is answered, from this machine."""


def _send(server: Viewer, record: dict[str, Any], number: int) -> tuple[int, Any]:
    path = quote(record["path"], safe="/%:@!$&'()*+,;=~")
    if record.get("query"):
        path += "?" + urlencode(record["query"], doseq=True)
    headers = {"X-Forwarded-For": _client(number), **record.get("request_headers", {})}
    if path.startswith(OWNERS):
        del headers["X-Forwarded-For"]
    body = None
    if "body_raw" in record:
        body = record["body_raw"].encode()
        headers["Content-Type"] = record.get("content_type", "application/json")
    elif record["body"] is not None:
        body = _here(server, json.dumps(record["body"])).encode()
        headers["Content-Type"] = "application/json"
    elif "multipart" in record:
        body, headers["Content-Type"] = _form(record["multipart"])
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.request(record["method"], path, body, headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    kind = response.headers["Content-Type"] or ""
    return response.status, json.loads(content) if "json" in kind else {"_text": content.decode()}


def _listen(server: Viewer, record: dict[str, Any], number: int) -> tuple[int, Any]:
    url = server.ws_url + quote(record["path"], safe="/%")
    headers = {"X-Forwarded-For": _client(number)}
    messages: list[str] = []
    expected = len(record["response"]["messages"])
    try:
        with connect(url, additional_headers=headers) as socket:
            if record.get("fs"):
                messages.append(socket.recv(timeout=5))
                _touch(server.storage, record["fs"])
            try:
                while True:  # what is expected, and a moment more for what is not
                    messages.append(socket.recv(timeout=5 if len(messages) < expected else 0.3))
            except TimeoutError:
                closed = False
            except ConnectionClosed as error:
                closed = error.rcvd is not None and error.rcvd.code == 1000
        return 101, {"messages": messages, "closed_by_server": closed}
    except InvalidStatus as error:
        return error.response.status_code, {"messages": [], "closed_by_server": False}


# -- comparing -----------------------------------------------------------------------------------


def _expected(root: Path, record: dict[str, Any]) -> tuple[int, Any]:
    """Status and answer: as recorded, or as the conflict register says of the storage as it is."""
    status, answer = record["status"], record["response"]
    path, query = record["path"], record.get("query") or {}
    ids = {deviation for deviation, _ in record.get("dev", [])}
    if record["name"] in EXPECTED:
        return EXPECTED[record["name"]]
    if "D16" in ids and status == 200:  # 5
        return 200, v04.by_time(_run(root, path.split("/")[3]) / "events.jsonl")
    if path == "/api/v2/experiments" and status == 200:  # 16, 17, 33, 50
        answer = v04.experiments(root, query)
        return (200, answer) if answer else (400, {})
    if path == "/api/v2/experiments/batch-delete" and status == 200:  # 15, 53
        ids = record["body"]["exp_ids"]
        if not all(isinstance(i, str) for i in ids) or isinstance(ids, str):
            return 400, {}
        results = {i: _is_active(root, i) for i in ids}
        done = sum(results.values())
        return 200, {"deleted": done, "failed": len(results) - done, "results": results}
    if (path.startswith("/api/v2/experiments/") and "D31" in ids) or "D43" in ids:
        run = _run(root, path.split("/")[4])  # 31, 57: every run on disk
        if run is None:
            return 404, {}
        if path.endswith("/fast"):
            return 200, v04.fast(run / "events.jsonl", query)
        return 200, v04.detail(run)
    if path.endswith("/fast") and status == 200:
        run = _run(root, path.split("/")[4])
        if run is None or (query.get("downsample") or "1").startswith(("0", "-")):  # 52
            return (404 if run is None else 400), {}
        if "downsample" in query:  # 52: which rows is said by _differences_of_sample
            return 200, v04.fast(run / "events.jsonl", query)
    if path.endswith("/details") and status == 200:  # 42
        connection = answer["connection"]
        has_password = bool(connection.pop("password"))
        shown = connection | {"has_password": has_password, "has_private_key": False}
        return 200, {"ok": True, "connection": shown}
    if path in ("/api/runs", "/api/recycle-bin") and record["name"].startswith("v2delete.after"):
        return status, _with_v2_deletions(root, path, answer)  # 34
    if path.startswith("/api/projects/") and path.endswith("/runs"):  # 55: real counts
        counted = [item | _artifact_counts(root, item["id"]) for item in answer]
        return status, counted
    if path.startswith("/api/v2/analytics") and status in (200, 404):  # 18, 54: real numbers
        return 200, {}
    return status, answer


def _with_v2_deletions(root: Path, path: str, answer: Any) -> Any:
    """What V2 deleted is gone from V1's list and in its recycle bin."""
    if path == "/api/runs":
        return [item for item in answer if _is_active(root, item["id"])]
    found = {item["id"]: item for item in answer["deleted_runs"]}
    deleted = [run.name for run in v04.run_folders(root) if v04.is_deleted(run)]
    return {"deleted_runs": [found.get(i, {"id": i}) for i in deleted]}


def _artifact_counts(root: Path, run_id: str) -> dict[str, int]:
    run = _run(root, run_id)
    return {
        f"artifacts_{verb}_count": len(
            v04.read_json(run / f"artifacts_{verb}.json").get("artifacts", [])
        )
        for verb in ("created", "used")
        if run is not None
    }


def _run(root: Path, run_id: str) -> Path | None:
    return next((run for run in v04.run_folders(root) if run.name == run_id), None)


def _is_active(root: Path, run_id: str) -> bool:
    run = _run(root, run_id)
    return run is not None and not v04.is_deleted(run)


def _differences_of_sample(record: dict[str, Any], rows: list[Any], answer: Any):
    """Register 52: some of *rows*, the first and the last among them."""
    wanted, found = int(record["query"]["downsample"]), answer["rows"]
    if len(found) != min(wanted, len(rows)) or answer["total_points"] != len(found):
        yield f"{len(found)} rows of {len(rows)}"
    ends = [rows[0], rows[-1]][:wanted] if rows else []
    if not all(row in found for row in ends) or not all(row in rows for row in found):
        yield f"not the first, the last and some of the others: {found}"
    if answer["applied_filters"]["downsampled"] != (len(found) < len(rows)):
        yield f"downsampled is {answer['applied_filters']['downsampled']}"


def _differences(
    server: Viewer,
    record: dict[str, Any],
    wanted: tuple[int, Any],
    status: int,
    answer: Any,
):
    expected_status, expected = wanted
    if expected_status == 422:
        expected_status, expected = 400, {}
        if not isinstance(answer["detail"], str) or not answer.get("errors"):
            yield f"not the one error shape: {answer}"
    if status != expected_status:
        if status not in record.get("any_status", []):
            yield f"status {status} instead of {expected_status}: {str(answer)[:200]}"
        return
    if status >= 400 and status != 429:
        return  # the wording is free
    if "downsample" in (record.get("query") or {}):
        yield from _differences_of_sample(record, expected["rows"], answer)
        return
    if record.get("query", {}).get("order_by") == "updated_at":  # every server has its own
        expected["experiments"].sort(key=lambda run: run["id"])
        answer["experiments"].sort(key=lambda run: run["id"])
    if record["path"] == "/api/experiments/search":  # 57: runs without a record are found, too
        known = {found["id"] for found in expected["experiments"]}
        answer["experiments"] = [one for one in answer["experiments"] if one["id"] in known]
    if "_truncated_text" in expected:
        lines, kept = answer["_text"].splitlines(), expected["_truncated_text"]
        if (len(lines), lines[1 : len(kept["head"]) + 1]) != (kept["count"], kept["head"]):
            yield f"other lines: {lines[:3]}"
        return
    if "_text" in expected:
        expected, answer = ({"_text": undated(a["_text"])} for a in (expected, answer))
    expected = json.loads(_here(server, json.dumps(expected, ensure_ascii=False)))
    yield from _compare(expected, answer, "$", record)


def _compare(expected: Any, found: Any, path: str, record: dict[str, Any]):
    if path in record.get("ignore", []) or path in NOW or path.split(".")[-1] in FREE:
        return
    if isinstance(expected, dict) and "_truncated" in expected:
        yield from _compare_truncated(expected["_truncated"], found, path, record)
    elif isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            if key in found:
                yield from _compare(value, found[key], f"{path}.{key}", record)
            elif key not in record.get("optional", []):
                yield f"{path}.{key} is missing"
    elif isinstance(expected, list) and isinstance(found, list):
        key = record.get("unordered", {}).get(path)
        if key:
            expected = sorted(expected, key=lambda e: e[key])
            found = sorted(found, key=lambda e: e[key])
        if len(expected) != len(found):
            yield f"{path} has {len(found)} entries instead of {len(expected)}"
            return
        for one, other in zip(expected, found, strict=True):
            yield from _compare(one, other, f"{path}[]", record)
    elif not _same(expected, found, path):
        yield f"{path} is {found!r} instead of {expected!r}"


def _compare_truncated(stored: dict[str, Any], found: Any, path: str, record: dict[str, Any]):
    rows = found[stored["key"]]
    if len(rows) != stored["count"]:
        yield f"{path} has {len(rows)} rows instead of {stored['count']}"
    head, tail = stored["head"], stored["tail"]
    yield from _compare(head, rows[: len(head)], f"{path}.head", record)
    yield from _compare(tail, rows[-len(tail) :], f"{path}.tail", record)
    for name, facts in stored["columns"].items():
        numbers = [
            row[name]
            for row in rows
            if isinstance(row.get(name), int | float) and not isinstance(row[name], bool)
        ]
        if facts.get("n") and len(numbers) == facts["n"]:
            if not math.isclose(sum(numbers), facts["sum"], rel_tol=1e-9):
                yield f"{path}: the sum of {name} is {sum(numbers)} instead of {facts['sum']}"
        elif facts.get("n"):
            yield f"{path}: {name} has {len(numbers)} numbers instead of {facts['n']}"


def _same(expected: Any, found: Any, path: str) -> bool:
    if isinstance(expected, bool) or isinstance(found, bool) or not _numbers(expected, found):
        return type(expected) is type(found) and expected == found
    tolerance = 1e-3 if re.search(r"time|_at$|ts$", path) else 0
    return math.isclose(expected, found, rel_tol=1e-9, abs_tol=tolerance)


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) for value in values)


SAVED = {"ok": True, "message": "SSH connection saved successfully"}
FORGOTTEN = {"ok": True, "message": "SSH connection deleted successfully"}

EXPECTED: dict[str, tuple[int, Any]] = {
    # Conflict register 25: an id named twice was deleted once, and that succeeded.
    "softdelete.duplicate": (
        200,
        {
            "deleted_count": 1,
            "results": {"20250304_113000_040e1e": {"success": True}},
            "message": "Soft deleted 1 of 2 runs",
        },
    ),
    # Conflict register 34: what V2 deleted is in the one recycle bin, and comes back from it.
    "v2delete.restore": (
        200,
        {
            "restored_count": 2,
            "results": {
                "20250305_140530_7bf78a": {"success": True},
                "20250304_100000_04762a": {"success": True},
            },
            "message": "Restored 2 of 2 runs",
        },
    ),
    # Conflict register 4, 41: the documented words, with the key; nothing is no connection.
    "ssh.save": (200, SAVED | {"key": "gpu.example.org:2222@trainer"}),
    "ssh.save2": (200, SAVED | {"key": "gpu2.example.org:22@trainer"}),
    "ssh.delete": (200, FORGOTTEN),
    "ssh.delete.unknown": (200, FORGOTTEN),
    "ssh.delete2": (200, FORGOTTEN),
    # Conflict register 27: what has no metrics is not found, and no crash.
    "export.csv.no_metrics": (404, {}),
    "export.csv.default": (404, {}),
    # Contract README section 8: a NaN does not spoil the numbers, and markup is escaped. Reports
    # have charts now.
    "export.report.nan_inf": (200, {}),
    "export.report.mixed_types": (200, {}),
    "export.report.html": (200, {}),
    # Conflict register 58: nothing is written beside the storage root.
    "import.prefix-escape": (200, {"ok": True, "imported_files": 0, "new_run_ids": []}),
    # Contract README section 8: V2 follows the storage root.
    "root.set.v2": (200, {"experiments": []}),
    # Conflict register 39: only JSON true empties the bin, so the run is still in it.
    "empty.truthy-string": (400, {}),
    "empty.truthy-string.after": (200, {"deleted_runs": [{"id": "20250304_113000_040e1e"}]}),
    "empty.converge": (200, {"permanently_deleted": 1}),
}
