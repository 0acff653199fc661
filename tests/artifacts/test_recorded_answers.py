"""Every recorded artifacts request gets the answer that Runicorn 0.4.0 gave.

Where the contract's conflict register or the issue says otherwise, ``expected`` says what, by the
number of the register's entry.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import v04
from tests.runs.test_recorded_answers import _compare, _send
from tests.servers import viewer


def records() -> list[dict[str, Any]]:
    return [
        record
        for record in v04.golden()
        if (record["path"].startswith("/api/artifacts") or record["path"].endswith("/artifacts"))
        and record["name"] != "root.set.artifacts"  # goes with the config module
    ]


@pytest.mark.slow
def test_recorded_answers(tmp_path):
    """One test for all: the records change the storage one after the other."""
    storage = v04.unpack_storage(tmp_path)
    wrong = []
    with viewer(storage, RUNICORN_TRUSTED_PROXIES="127.0.0.1") as server:
        for number, record in enumerate(records()):
            wanted_status, wanted = expected(storage, record)
            status, answer = _send(server, record, number)
            record["ignore"] = [path.replace("[0]", "[]") for path in record.get("ignore", [])]
            if status != wanted_status:
                if status in record.get("any_status", []):
                    continue
                wrong.append(f"{record['name']}: {status}, not {wanted_status}: {answer}")
            elif status == 400:
                assert isinstance(answer["detail"], str) and answer["errors"], record["name"]
            elif status < 400:
                if "edges" in answer:
                    answer["edges"].sort(key=lambda edge: (edge["source"], edge["target"]))
                text = json.dumps(wanted).replace(v04.RECORDED_ROOT, str(storage))
                for difference in _compare(json.loads(text), answer, "$", record):
                    wrong.append(f"{record['name']}: {difference}")
    assert not wrong, "\n".join(wrong)
    assert number > 200


def expected(root: Path, record: dict[str, Any]) -> tuple[int, Any]:
    status, answer, name = record["status"], record["response"], record["name"]
    parts = record["path"].split("/")
    if status == 422:
        return 400, None
    if "typetraversal" in name or name.endswith("badversion0") or "badversion2" in name:  # 13, 44
        return 404 if "lineage" not in name or "type" in name else 200, answer
    if name == "artifacts.wrongtype.v1.lineage":  # an explicit type without that artifact: 404
        return 404, None
    if name == "promote.after.detail":  # 14
        return 200, {"name": "eval-report", "lifecycle_stage": "staging", "status": "ready"}
    if name == "promote.after.files":
        return 200, {"artifact": "eval-report:v1", "total_files": 1}
    if status != 200:
        return status, answer
    if parts[-1] == "versions":  # 6, 7
        for version in answer:
            version |= _of_version(root, parts[3], version["version"])
    elif "manifest_digest" in answer:  # 6, 7, 8
        answer |= _of_version(root, parts[3], answer["version"])
        answer["manifest_digest"] = f"sha256:{answer['manifest_digest']}"
    elif parts[-1] == "lineage":  # 9, 10
        answer = _lineage(root, record)
    elif parts[-1] == "stats":  # 11, and what a purge has freed
        answer["total_files"] = {7: 16, 6: 13}[answer["total_versions"]]
        pool = sum(p.stat().st_size for p in root.glob("artifacts/.dedup/*/*"))
        total = answer["total_size_bytes"]
        answer |= {"dedup_pool_size_bytes": pool, "space_saved_bytes": total - pool}
        answer["dedup_ratio"] = 1 - pool / total
    elif parts[-1] == "training-metrics" and answer:  # 46
        run = next(root.glob(f"*/*/runs/{answer['run_id']}"))
        answer["created_at"] = json.loads((run / "meta.json").read_text())["created_at"]
        said = json.loads((run / "status.json").read_text())
        answer["duration_seconds"] = round(said["ended_at"] - said["started_at"], 6)
    return status, answer


def _of_version(root: Path, name: str, number: int) -> dict[str, Any]:
    """Aliases as the index maps them; deleted as the marker says."""
    folder = next(root.glob(f"artifacts/*/{name}"))
    aliases = json.loads((folder / "versions.json").read_text())["aliases"]
    is_deleted = (folder / f"v{number}" / ".deleted").exists()
    return {
        "aliases": sorted(alias for alias, version in aliases.items() if version == number),
        "status": "deleted" if is_deleted else "ready",
    }


def _lineage(root: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Run nodes with the documented id and label, and downstream, which 0.4.0 never found."""
    answer = record["response"]
    if not answer["nodes"]:
        return answer
    max_depth = min(10, int((record.get("query") or {}).get("max_depth", 3)))
    nodes, edges = v04_lineage(root, answer["root_artifact"], max_depth)
    for node in answer["nodes"]:  # what was found upstream is still there
        assert node["node_id"].removeprefix("run:") in nodes, record["name"]
    record["unordered"] = {"$.nodes": "node_id"}
    facts = {n["node_id"]: n["metadata"] for n in answer["nodes"] if n["node_type"] == "artifact"}
    answer["nodes"] = [
        {
            "node_type": "artifact",
            "node_id": node,
            "label": node.replace(":", " "),
            "metadata": facts.get(node, {}),
        }
        if ":" in node
        else {
            "node_type": "run",
            "node_id": node,
            "label": "Training Run",
            "metadata": {"run_id": node, "project": "assets"},
        }
        for node in nodes
    ]
    answer["edges"] = [
        {"source": source, "target": target, "edge_type": "uses" if ":" in source else "produces"}
        for source, target in sorted(edges)
    ]
    return answer


def v04_lineage(root: Path, start: str, depth: int) -> tuple[set[str], set[tuple[str, str]]]:
    """The contract's traversal over the run records, without any regard to speed."""
    runs = {}
    for run in root.glob("assets/*/runs/*"):
        made, used = (
            [f"{a['name']}:v{a['version']}" for a in json.loads(path.read_text())["artifacts"]]
            if (path := run / f"artifacts_{kind}.json").exists()
            else []
            for kind in ("created", "used")
        )
        runs[run.name] = (made, used)
    nodes, edges = {start}, set()

    def up(artifact: str, left: int) -> None:
        for run, (made, used) in runs.items():
            if left > 0 and artifact in made:
                nodes.update([run, *used])
                edges.update({(run, artifact), *((other, run) for other in used)})
                for other in used:
                    up(other, left - 1)

    def down(artifact: str, left: int) -> None:
        for run, (made, used) in runs.items():
            if left > 0 and artifact in used:
                nodes.update([run, *made])
                edges.update({(artifact, run), *((run, other) for other in made)})
                for other in made:
                    down(other, left - 1)

    up(start, depth)
    down(start, depth)
    return nodes, edges
