"""The calls of the client, each written once (see :mod:`._steps`); ``self`` is either client.

Answers are plain dicts in the documented shapes, whichever server gave them: this one, or an
original of version 0.4, whose own routes are all that is used here unless a docstring says more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote

import orjson

from . import _requests as http
from ._steps import Emit, Pause, Progress, Request, Steps, Stream
from .exceptions import BadRequestError, NotFoundError

JSON: TypeAlias = dict[str, Any]
MANY_RUNS = 100
"""As many runs as one request may delete or restore."""

PAGE = 1000
"""The largest page that a server gives out."""

IMPORT_TIMEOUT_S = 3600.0
"""A server answers an import when all of it is in its place."""


class Client(http.Settings, Protocol):
    pass


def path(*parts: str) -> str:
    """``/api/…`` with *parts* quoted, so that no name can lead elsewhere."""
    return "/".join(["/api", *(quote(part, safe="") for part in parts)])


def health_check(self: Client) -> Steps[JSON]:
    """Return the server's ``status``, ``version`` and more."""
    return (yield from http.expect_object(http.get(self, "/api/health")))


# -- runs --------------------------------------------------------------------------------------


def list_experiments(
    self: Client,
    project: str | None = None,
    name: str | None = None,
    status: str | None = None,
    limit: int | None = None,
    offset: int | None = None,
) -> Steps[list[JSON]]:
    """The runs that are not in the recycle bin, newest first.

    Each has at least ``id, project, name, status, created_at`` (Unix seconds), ``updated_at,
    summary, tags``. *project*, *name*, *status*: exactly these. *limit* 0 means none of them.
    """
    wanted = {"project": project, "name": name, "status": status}
    wanted = {key: value for key, value in wanted.items() if value is not None}
    runs = [
        _experiment(run)
        for run in (yield from http.get(self, "/api/runs"))
        if all(run.get(key) == value for key, value in wanted.items())
    ]
    runs.sort(key=itemgetter("id"))
    runs.sort(key=lambda run: run["created_at"] or 0, reverse=True)
    return _slice(runs, limit, offset)


def iter_experiments(
    self: Client,
    project: str | None = None,
    name: str | None = None,
    status: str | None = None,
    *,
    page_size: int = 200,
    search: str | None = None,
    tags: Iterable[str] = (),
    order_by: str = "created_at",
    order_desc: bool = True,
    include_deleted: bool = False,
    created_after: float | None = None,
    created_before: float | None = None,
) -> Stream[JSON]:
    """Runs one by one, asked for *page_size* (at most 1000) at a time; the server filters.

    *search*: part of project, name, notes or id. *tags*: all of them. Times in Unix seconds. Needs
    the V2 API. A run that is created meanwhile shifts the pages; none is given twice.
    """
    filters = {
        "project": project,
        "name": name,
        "status": status,
        "search": search,
        "tags": ",".join(tags) or None,
        "order_by": order_by,
        "order_desc": order_desc,
        "include_deleted": include_deleted,
        "created_after": created_after,
        "created_before": created_before,
        "per_page": min(page_size, PAGE),
    }
    seen: set[str] = set()
    page = 1
    while True:
        answer = yield from http.get(self, "/api/v2/experiments", {**filters, "page": page})
        for run in answer["experiments"]:
            if run["id"] not in seen:
                seen.add(run["id"])
                yield Emit(_experiment(run))
        if not answer["has_next"]:
            return
        page += 1


def _experiment(run: JSON) -> JSON:
    created = run.get("created_at", run.get("created_time")) or 0
    return {
        **run,
        "created_at": created,
        "updated_at": run.get("updated_at") or created,
        "summary": run.get("summary") or {},
        "tags": run.get("tags") or [],
    }


def _slice(items: list[JSON], limit: int | None, offset: int | None) -> list[JSON]:
    start = offset or 0
    return items[start:] if limit is None else items[start : start + limit]


def get_experiment(self: Client, run_id: str) -> Steps[JSON]:
    """One run, with ``created_at`` in Unix seconds. Raises NotFoundError."""
    run = yield from http.get(self, path("runs", run_id))
    return _experiment(run)


def list_projects(self: Client) -> Steps[list[JSON]]:
    """``{"name", "experiment_count", "latest_update"}`` of each project, by name."""
    names = yield from http.get(self, "/api/projects")
    runs = yield from http.get(self, "/api/runs")
    times: dict[str, list[float]] = {name: [] for name in names["projects"]}
    for run in runs:
        if run.get("project") in times:
            times[run["project"]].append(run.get("created_time") or 0)
    return [
        {"name": name, "experiment_count": len(of), "latest_update": max(of, default=0)}
        for name, of in times.items()
    ]


def check_status(self: Client) -> Steps[JSON]:
    """Let the server mark running runs whose process has vanished as failed."""
    return (yield from http.expect_object(http.post(self, "/api/status/check")))


def get_environment(self: Client, run_id: str) -> Steps[JSON]:
    """``{"available": bool, "environment": {…}}``: what the run recorded of where it ran."""
    return (yield from http.expect_object(http.get(self, path("environment", run_id))))


# -- changing runs -----------------------------------------------------------------------------


def soft_delete(self: Client, run_ids: Iterable[str]) -> Steps[JSON]:
    """Move runs to the recycle bin; per id ``{"success": bool, "error"?: str}``.

    Any number of them: they are sent 100 at a time.
    """
    return (yield from _change(self, "/api/runs/soft-delete", run_ids))


def restore(self: Client, run_ids: Iterable[str]) -> Steps[JSON]:
    """Bring runs back from the recycle bin; per id ``{"success": bool, "error"?: str}``."""
    return (yield from _change(self, "/api/recycle-bin/restore", run_ids))


def _change(self: Client, endpoint: str, run_ids: Iterable[str]) -> Steps[JSON]:
    ids = list(dict.fromkeys(_ids(run_ids)))
    results: JSON = {}
    for start in range(0, len(ids), MANY_RUNS):
        answer = yield from http.post(self, endpoint, {"run_ids": ids[start : start + MANY_RUNS]})
        results |= answer["results"]
    return results


def _ids(run_ids: Iterable[str]) -> Iterable[str]:
    return [run_ids] if isinstance(run_ids, str) else run_ids


def list_recycle_bin(self: Client) -> Steps[list[JSON]]:
    """The runs in the recycle bin, with ``deleted_at``, ``delete_reason``, ``original_status``."""
    answer = yield from http.get(self, "/api/recycle-bin")
    runs: list[JSON] = answer["deleted_runs"]
    return runs


def empty_recycle_bin(self: Client, *, confirm: bool = False) -> Steps[int]:
    """Remove every run in the recycle bin for good, if *confirm* is True; how many they were."""
    answer = yield from http.post(self, "/api/recycle-bin/empty", {"confirm": confirm})
    return int(answer["permanently_deleted"])


def tag_experiment(
    self: Client, run_id: str, tags: Iterable[str], append: bool = True
) -> Steps[bool]:
    """Give a run *tags*, beside those it has or, with *append* False, instead of them."""
    body = {"run_id": run_id, "tags": list(_ids(tags)), "append": append}
    answer = yield from http.post(self, "/api/experiments/tag", body)
    return bool(answer["success"])


def set_notes(self: Client, run_id: str, notes: str) -> Steps[JSON]:
    """Replace the notes about a run; the run as it then is, with ``notes`` and ``tags``.

    Needs a server of version 0.8.
    """
    return (yield from _change_run(self, run_id, {"notes": notes}))


def set_tags(self: Client, run_id: str, tags: Iterable[str]) -> Steps[JSON]:
    """Give a run exactly these tags; the run as it then is. Needs a server of version 0.8."""
    return (yield from _change_run(self, run_id, {"tags": list(_ids(tags))}))


def _change_run(self: Client, run_id: str, changes: JSON) -> Steps[JSON]:
    call = http.patch(self, path("runs", run_id), changes)
    return _experiment((yield from http.expect_object(call)))


def cleanup_experiments(self: Client, days: float = 30, dry_run: bool = True) -> Steps[list[str]]:
    """The runs that have ended and were not changed for *days*; removed for good unless *dry_run*.

    Pinned and archived ones are left alone. Needs a server of version 0.8.
    """
    body = {"days": days, "dry_run": dry_run}
    answer = yield from http.post(self, "/api/experiments/cleanup", body)
    found: list[str] = answer["run_ids"]
    return found


def search_experiments(
    self: Client,
    project: str | None = None,
    tags: Iterable[str] = (),
    text: str | None = None,
    archived: bool = False,
) -> Steps[list[JSON]]:
    """Records of runs with all of *tags* and *text* in name, project, notes or a tag; of archived
    ones as well with *archived*."""
    params = {"project": project, "tags": ",".join(_ids(tags)) or None, "text": text}
    answer = yield from http.get(
        self, "/api/experiments/search", {**params, "archived": archived or None}
    )
    found: list[JSON] = answer["experiments"]
    return found


def delete_experiments(
    self: Client, run_ids: Iterable[str], force: bool = False
) -> Steps[dict[str, bool]]:
    """Remove runs for good, past the recycle bin; pinned ones only with *force*."""
    body = {"run_ids": list(_ids(run_ids)), "force": force}
    answer = yield from http.delete(self, "/api/experiments/delete", body)
    results: dict[str, bool] = answer["results"]
    return results


# -- metrics -----------------------------------------------------------------------------------


def metric_table(self: Client, run_id: str) -> Steps[JSON]:
    """All the run logged, ``{"columns", "rows"}``, one row a step."""
    return (yield from http.expect_object(http.get(self, path("runs", run_id, "metrics_step"))))


def get_metrics(
    self: Client,
    run_id: str,
    metric_names: Iterable[str] | None = None,
    limit: int | None = None,
) -> Steps[JSON]:
    """``{"run_id", "metrics": {name: [{"step", "value", "timestamp"}]}}``."""
    table = yield from metric_table(self, run_id)
    return {"run_id": run_id, "metrics": points(table, metric_names, limit)}


def metric_names_in(table: JSON, wanted: Iterable[str] | None) -> list[str]:
    """The metrics of *table* that are *wanted* (in that order), or all; unknown ones left out."""
    known = [name for name in table["columns"] if name not in ("global_step", "time", "stage")]
    return known if wanted is None else [name for name in _ids(wanted) if name in known]


def points(
    table: JSON, metric_names: Iterable[str] | None = None, limit: int | None = None
) -> dict[str, list[JSON]]:
    series: dict[str, list[JSON]] = {}
    rows = [(row, row["global_step"], row.get("time") or 0) for row in table["rows"]]
    for name in metric_names_in(table, metric_names):
        found = [
            {"step": step, "value": value, "timestamp": time}
            for row, step, time in rows
            if isinstance(value := row.get(name), int | float)
        ]
        if found:
            series[name] = found if limit is None else found[len(found) - min(limit, len(found)) :]
    return series


def get_system_metrics(self: Client, run_id: str, downsample: int | None = None) -> Steps[JSON]:
    """Return the load of the run's machine: ``{"columns", "rows"}``, one row a sample.

    ``time`` is in Unix seconds; the other columns are named with their units. *downsample*: at
    most so many rows, 100 to 50,000. Needs a server of version 0.8.
    """
    call = http.get(self, path("runs", run_id, "system"), {"downsample": downsample})
    return (yield from http.expect_object(call))


def follow_metrics(
    self: Client,
    run_id: str,
    metric_names: Iterable[str] | None = None,
    *,
    interval: float = 2.0,
) -> Stream[JSON]:
    """Each point, ``{"name", "step", "value", "timestamp"}``, as it is logged; first those there.

    Ends when the run has ended. Asks every *interval* seconds. What is logged behind the last step
    of its metric (a loop that begins again) is passed over.
    """
    names = None if metric_names is None else list(_ids(metric_names))
    last: dict[str, int] = {}
    cursor = "0.0"  # a server of version 0.4 knows none, and sends all of it each time
    while True:
        # Asked before the metrics are: what was logged up to the end is then among them.
        run = yield from get_experiment(self, run_id)
        table = yield from http.get(self, path("runs", run_id, "metrics_step"), {"since": cursor})
        cursor = table.get("cursor", cursor)
        fresh = [
            {"name": name, **point}
            for name, series in points(table, names).items()
            for point in series
            if name not in last or point["step"] > last[name]
        ]
        for point in sorted(fresh, key=itemgetter("step")):
            last[point["name"]] = point["step"]
            yield Emit(point)
        if run["status"] != "running":
            return
        yield Pause(interval)


# -- configuration and the machine -------------------------------------------------------------


def get_config(self: Client) -> Steps[JSON]:
    """The server's configuration; ``user_root`` is the folder that it was told to use."""
    config = yield from http.get(self, "/api/config")
    return {**config, "user_root": config.get("user_root_dir", "")}


def update_config(self: Client, config: JSON) -> Steps[JSON]:
    """Change the storage folder: ``{"user_root": "/an/absolute/path"}``."""
    known = {"user_root", "user_root_dir", "path"} & config.keys()
    if len(config) != 1 or not known:
        raise BadRequestError("Bad request: only user_root can be changed through the API")
    body = {"path": config[known.pop()]}
    return (yield from http.expect_object(http.post(self, "/api/config/user_root_dir", body)))


def get_gpu_info(self: Client) -> Steps[JSON]:
    """``{"available", "devices": [{"name", "memory_total" (MiB), …}]}``."""
    answer = yield from http.get(self, "/api/gpu/telemetry")
    devices = [
        {**gpu, "memory_total": gpu.get("mem_total_mib")} for gpu in answer.get("gpus") or []
    ]
    return {**answer, "devices": devices}


# -- exports and imports -----------------------------------------------------------------------


FILES = ("csv", "excel", "parquet", "tensorboard", "pdf")
"""The kinds of files that ``/api/export/{run_id}/…`` serves."""


def export_experiment(
    self: Client,
    run_id: str,
    format: str = "json",
    include_media: bool = False,
    *,
    spreadsheet: bool = False,
) -> Steps[bytes]:
    """Return a run as a file, in memory: ``json`` (run, metrics and environment) or ``csv`` (one
    row an event); from a server of version 0.8 also ``excel, parquet, tensorboard, pdf``.

    *spreadsheet* asks such a server for CSV that Excel takes as it is: no text is a formula.
    """
    if include_media:
        raise BadRequestError(
            "Bad request: include_media is not offered; download_runs() brings every file"
        )
    if format in FILES:
        params = {"spreadsheet": "true"} if spreadsheet else None
        return (yield from http.content(self, path("export", run_id, format), params))
    if format != "json":
        known = ", ".join(("json", *FILES))
        raise BadRequestError(f"Bad request: format must be one of {known}, not {format!r}")
    run = yield from get_experiment(self, run_id)
    metrics = yield from metric_table(self, run_id)
    try:
        environment = (yield from get_environment(self, run_id)).get("environment")
    except NotFoundError:  # a server without this route
        environment = None
    document = {"run": run, "metrics": metrics, "environment": environment}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def export_report(self: Client, run_id: str, format: str = "markdown") -> Steps[bytes]:
    """A report of a run, to be read by people: ``markdown``, ``html`` or ``pdf``."""
    if format == "pdf":
        return (yield from export_experiment(self, run_id, "pdf"))
    return (yield from http.content(self, path("export", run_id, "report"), {"format": format}))


def download_runs(
    self: Client,
    output_path: str | os.PathLike[str],
    run_ids: Iterable[str] = (),
    *,
    project: str | None = None,
    name: str | None = None,
    format: str = "archive",
    artifacts: bool = False,
    progress: Progress | None = None,
) -> Steps[str]:
    """Runs in one file, whose path is returned: an archive to be imported elsewhere or, with
    another *format* of :func:`export_experiment`, a zip of such files.

    *run_ids*, or those of a *project* and *name* in it. *artifacts*: with the versions that they
    made or used. *progress*: called with (bytes received, None). Needs a server of version 0.8.
    """
    params = {
        "run_ids": ",".join(_ids(run_ids)) or None,
        "project": project,
        "name": name,
        "format": format,
        "artifacts": "true" if artifacts else None,
    }
    yield from http.save(self, "/api/export", Path(output_path), params, progress)
    return str(output_path)


def import_archive(
    self: Client,
    archive: str | os.PathLike[str],
    progress: Progress | None = None,
    *,
    dry_run: bool = False,
    replace: bool = False,
) -> Steps[JSON]:
    """Send an archive of runs (``.tar.gz``, ``.zip``) to be imported; return the outcome.

    *progress*: called with (bytes sent, bytes in total). *dry_run*: only say what would come in.
    *replace*: put its runs in place of other versions. Not repeated if the connection breaks.
    """
    file = Path(archive)
    if not file.is_file():
        raise FileNotFoundError(f"Archive not found: {file}")
    flags = {"dry_run": dry_run, "replace": replace}
    request = Request(
        "POST",
        "/api/import/archive",
        form={flag: "true" for flag, is_on in flags.items() if is_on},
        upload=file,
        progress=progress,
        timeout_s=IMPORT_TIMEOUT_S,
    )
    answer: JSON = http.json_of((yield from http.send(self, request)))
    return answer
