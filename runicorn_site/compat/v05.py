"""The API that the published client of version 0.5 expects.

That client calls routes that no server had, and insists on a health of ``healthy`` where every
server says ``ok``. Its requests look like any other script's, so its user has to put a name into
the address: ``http://runicorn:0.5@127.0.0.1:23300``. Requests with that name get these routes
first and ours behind them; other clients see no difference.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from artifacts.views import browsing
from core.http.exceptions import InvalidInput
from core.http.fields import Body, Choice, CommaSeparated, Query, Text, read_keys
from core.http.permissions import SeeOrAdminister
from core.http.rest import dump_json
from metrics import read as metrics
from operation.api import config, telemetry
from operation.api.health import Health
from runs.api.v1 import exports, serializers
from runs.api.v1.views import RunView
from runs.finding.filters import RunFilter

NAME = "runicorn:0.5"

View = Callable[..., Any]


def for_version_0_5(get_response: Any) -> Any:
    """Middleware: route requests with this client's name through ``urlpatterns``."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if _name(request) == NAME:
            request.urlconf = __name__
        response: HttpResponse = get_response(request)
        return response

    return middleware


def _name(request: HttpRequest) -> str:
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


# -- our responses in its shape -----------------------------------------------------------------


def reshaped(view: View, shape: Callable[[Any, HttpRequest], Any]) -> View:
    """Return *view* with its successful responses passed through *shape*."""

    @csrf_exempt
    def wrapped(request: HttpRequest, **arguments: str) -> Any:
        response = view(request, **arguments)
        if response.status_code == 200:
            response.render()
            return HttpResponse(
                dump_json(shape(orjson.loads(response.content), request)),
                content_type="application/json",
            )
        return response

    return wrapped


def _cut(items: list[Any], request: HttpRequest) -> list[Any]:
    start, limit = (_natural(request, name) for name in ("offset", "limit"))
    return items[start or 0 :][: limit or None]


def _natural(request: HttpRequest, name: str) -> int:
    return next(iter(read_keys([request.GET.get(name, "")])), 0)


def _listed(name: str) -> Callable[[Any, HttpRequest], Any]:
    return lambda items, request: {name: _cut(items, request)}


def _related(items: Any, request: HttpRequest) -> Any:
    artifacts = [
        {**artifact, "relation": relation}
        for relation in ("created", "used")
        if request.GET.get("relation", relation) == relation
        for artifact in items[relation]
    ]
    return {"artifacts": artifacts}


def _devices(data: Any, _: HttpRequest) -> Any:
    gpus = data.get("gpus") or []
    return {**data, "devices": [{**gpu, "memory_total": gpu["mem_total_mib"]} for gpu in gpus]}


def _newest_first(data: Any, _: HttpRequest) -> Any:
    return {"versions": data[::-1]}


def version(view: View, shape: Callable[[Any, HttpRequest], Any] = lambda x, _: x) -> View:
    """Return *view* of an artifact version for ``name:v3``, ``name:3`` and ``name:alias``."""

    @csrf_exempt
    def wrapped(request: HttpRequest, name: str, reference: str) -> Any:
        number = reference.removeprefix("v")
        if not number.isdecimal():
            listed = browsing.ArtifactList.as_view()(request)
            listed.render()
            aliases_by_name = {a["name"]: a["aliases"] for a in orjson.loads(listed.content)}
            number = str(aliases_by_name.get(name, {}).get(reference, reference))
        return reshaped(view, shape)(request, name=name, version=number)

    return wrapped


# -- routes that only this client calls ----------------------------------------------------------


class SeriesQuery(Query):
    metrics = CommaSeparated(default=list)


class Experiments(RunView):
    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        runs = RunFilter.narrow(self.runs(), request.GET)
        rows = runs.order_by("-created_time", "-run_id").values_list(*serializers.LISTED)
        experiments = [
            {**run, "created_at": run["created_time"], "updated_at": run["created_time"]}
            | {"summary": {}, "tags": []}
            for run in serializers.listed(rows)
        ]
        return Response({"experiments": _cut(experiments, request), "total": len(experiments)})


class Series(RunView):
    @extend_schema(exclude=True)
    def get(self, request: Request, run_id: str) -> Response:
        run = self.run(run_id)
        keys = SeriesQuery.read(request)["metrics"]
        table = metrics.by_step(run.pk).whole()
        series: dict[str, Any] = {}
        if table is not None:
            steps = table.index.tolist()
            times = table.columns["time"].numbers().tolist() if "time" in table.columns else []
            for name, column in table.columns.items():
                at = column.finite().nonzero()[0].tolist()
                if name in ("time", "stage") or (keys and name not in keys) or not at:
                    continue
                values = column.numbers().tolist()
                series[name] = [
                    {"step": steps[i], "value": values[i], "timestamp": times[i] if times else 0}
                    for i in at[-(_natural(request, "limit") or len(at)) :]
                ]
        return Response({"run_id": run_id, "metrics": series})


class AllProjects(RunView):
    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        times: dict[str, list[float]] = {}
        named = self.runs().active().exclude(project=None)
        for project, created in named.values_list("project__name", "created_time"):
            times.setdefault(project, []).append(created or 0)
        projects = [
            {"name": name, "experiment_count": len(of), "latest_update": max(of)}
            for name, of in sorted(times.items())
        ]
        return Response({"projects": projects})


@csrf_exempt
def export(request: HttpRequest) -> Any:
    """``POST /api/export`` with ``run_id`` and ``format``: csv, or json of everything."""
    if request.method != "POST":
        return exports.ExportMany.as_view()(request)
    return ExportOne.as_view()(request)


_WHICH = "run_id is required, and format must be json or csv"


class ExportRequest(Body):
    run_id = Text(error_messages=dict.fromkeys(("required", "null", "invalid", "blank"), _WHICH))
    format = Choice(
        ["json", "csv"], default="json", error_messages={"invalid_choice": _WHICH, "null": _WHICH}
    )


class ExportOne(RunView):
    @extend_schema(exclude=True)
    def post(self, request: Request) -> Any:
        params = ExportRequest.read(request)
        run_id = params["run_id"]
        run = self.run(run_id)
        if params["format"] == "csv":
            plain = request._request
            plain.method = "GET"
            return exports.ExportRun.as_view()(plain, run_id=run_id, kind="csv")
        table = metrics.by_step(run.pk).whole()
        rows = orjson.loads(b"[%b]" % table.json_rows()) if table is not None else []
        return Response(
            {
                "run": serializers.RunDetail(run).data,
                "metrics": {"columns": list(rows[0]) if rows else [], "rows": rows},
                "environment": run.document("environment.json"),
            }
        )


class RootRequest(Body):
    """The storage folder, under any of the names that the field has had."""

    user_root = Text(required=False)
    user_root_dir = Text(required=False)
    path = Text(required=False)

    def validate(self, params: dict[str, Any]) -> dict[str, Any]:
        if len(params) != 1 or len(self.initial_data) != 1:
            raise InvalidInput("only user_root can be changed through the API", ["body"])
        return params


class Configuration(config.Config):
    permission_classes = [SeeOrAdminister]

    @extend_schema(exclude=True)
    def put(self, request: Request) -> Response:
        (path,) = RootRequest.read(request).values()
        return config.change_root(path, by=request.user)


urlpatterns = [
    path("api/health", reshaped(Health.as_view(), lambda a, _: a | {"status": "healthy"})),
    path("api/experiments", Experiments.as_view()),
    path(
        "api/experiments/<str:run_id>/artifacts",
        reshaped(browsing.RunArtifacts.as_view(), _related),
    ),
    path("api/projects", AllProjects.as_view()),
    path("api/metrics/<str:run_id>", Series.as_view()),
    path("api/export", export),
    path("api/config", Configuration.as_view()),
    path("api/gpu", reshaped(telemetry.Gpus.as_view(), _devices)),
    path("api/artifacts", reshaped(browsing.ArtifactList.as_view(), _listed("artifacts"))),
    path(
        "api/artifacts/<str:name>/versions", reshaped(browsing.VersionList.as_view(), _newest_first)
    ),
    path("api/artifacts/<str:name>:<str:reference>", version(browsing.VersionRetrieve.as_view())),
    path(
        "api/artifacts/<str:name>:<str:reference>/lineage",
        version(browsing.VersionLineage.as_view()),
    ),
    path("", include("runicorn_site.urls")),
]

handler400 = "core.http.errors.bad_request"
handler403 = "core.http.errors.permission_denied"
handler404 = "core.http.errors.page_not_found"
handler500 = "core.http.errors.server_error"
