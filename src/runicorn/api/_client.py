"""The two clients, blocking and asynchronous: the same calls on different transports."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal, Self, overload

from . import _calls as calls
from . import _frames as frames
from . import _logs as logs
from . import _requests as http
from ._steps import (
    Request,
    Steps,
    aiterating,
    arun,
    awaiting,
    blocking,
    iterating,
    run,
)
from ._transport import AwaitingTransport, BlockingTransport
from .artifacts import ArtifactsAPI, AsyncArtifactsAPI
from .exceptions import ConnectionError, RunicornAPIError
from .remote import AsyncRemoteAPI, RemoteAPI

BASE_URL = "http://127.0.0.1:23300"
HEALTH_TIMEOUT_S = 5.0

Frame = Literal[True, "pandas", "polars"]


class _Client:
    def __init__(
        self,
        base_url: str = BASE_URL,
        timeout: float = 30,
        max_retries: int = 3,
        *,
        token: str | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout
        self.max_retries = max_retries
        self._token = token or os.environ.get("RUNICORN_TOKEN")

    def _greet(self) -> Steps[None]:
        """Ask once, and briefly, whether a Runicorn server is there."""
        request = Request("GET", "/api/health", timeout_s=HEALTH_TIMEOUT_S, retries=0)
        try:
            health = http.json_of((yield from http.send(self, request)))
            if health.get("status") not in ("ok", "healthy"):
                raise ConnectionError(f"it is not healthy: {health}")
        except RunicornAPIError as error:
            raise type(error)(
                f"Failed to connect to Runicorn Viewer at {self.base_url}: {error}",
                status_code=error.status_code,
                detail=error.detail,
            ) from error


class RunicornClient(_Client):
    """A Runicorn server, this one or an original of version 0.4.

    *base_url*: its address, with the path prefix that a proxy may give it. *timeout*: seconds to
    wait for the server to say something. *max_retries*: how often a call is repeated where that is
    safe. *token*: sent as a bearer token; default ``RUNICORN_TOKEN``. Connections are kept and used
    again, also from several threads; ``close()`` or leaving the ``with`` block ends them.

    Raises ConnectionError if nothing healthy answers there.
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        timeout: float = 30,
        max_retries: int = 3,
        *,
        token: str | None = None,
    ) -> None:
        super().__init__(base_url, timeout, max_retries, token=token)
        self._transport = BlockingTransport(self.base_url, timeout, self._token)
        self.session = self._transport.session
        try:
            run(self._greet(), self._transport)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def artifacts(self) -> ArtifactsAPI:
        return ArtifactsAPI(self)

    @cached_property
    def remote(self) -> RemoteAPI:
        return RemoteAPI(self)

    @overload
    def get_metrics(
        self,
        run_id: str,
        metric_names: Iterable[str] | None = None,
        limit: int | None = None,
        *,
        as_dataframe: Literal[False] = False,
    ) -> dict[str, Any]: ...

    @overload
    def get_metrics(
        self,
        run_id: str,
        metric_names: Iterable[str] | None = None,
        limit: int | None = None,
        *,
        as_dataframe: Frame,
    ) -> Any: ...

    def get_metrics(
        self,
        run_id: str,
        metric_names: Iterable[str] | None = None,
        limit: int | None = None,
        *,
        as_dataframe: bool | frames.Library = False,
    ) -> Any:
        """``{"run_id", "metrics": {name: [{"step", "value", "timestamp"}]}}``, numbers only.

        *metric_names*: only these; unknown ones are left out. *limit*: the last so many points of
        each. *as_dataframe*: instead, a DataFrame on Arrow memory, of pandas (True) or
        ``"polars"``, with the columns ``step, timestamp`` and the metrics as float64, one row a
        step; *limit* then counts steps.
        """
        return run(
            _metrics(self, run_id, metric_names, limit, as_dataframe=as_dataframe), self._transport
        )

    get = blocking(http.get)
    post = blocking(http.post)
    put = blocking(http.put)
    patch = blocking(http.patch)
    delete = blocking(http.delete)

    health_check = blocking(calls.health_check)
    list_experiments = blocking(calls.list_experiments)
    iter_experiments = iterating(calls.iter_experiments)
    get_experiment = blocking(calls.get_experiment)
    get_run = get_experiment
    list_projects = blocking(calls.list_projects)
    check_status = blocking(calls.check_status)
    get_environment = blocking(calls.get_environment)

    soft_delete = blocking(calls.soft_delete)
    restore = blocking(calls.restore)
    list_recycle_bin = blocking(calls.list_recycle_bin)
    empty_recycle_bin = blocking(calls.empty_recycle_bin)
    tag_experiment = blocking(calls.tag_experiment)
    set_tags = blocking(calls.set_tags)
    set_notes = blocking(calls.set_notes)
    search_experiments = blocking(calls.search_experiments)
    delete_experiments = blocking(calls.delete_experiments)
    cleanup_experiments = blocking(calls.cleanup_experiments)

    get_system_metrics = blocking(calls.get_system_metrics)
    follow_metrics = iterating(calls.follow_metrics)
    follow_logs = logs.follow_logs

    get_config = blocking(calls.get_config)
    update_config = blocking(calls.update_config)
    get_gpu_info = blocking(calls.get_gpu_info)

    export_experiment = blocking(calls.export_experiment)
    export_report = blocking(calls.export_report)
    download_runs = blocking(calls.download_runs)
    import_archive = blocking(calls.import_archive)


class AsyncRunicornClient(_Client):
    """:class:`RunicornClient` for an event loop: ``async with AsyncRunicornClient() as client``.

    Every call is awaited, ``iter_…`` and ``follow_…`` are iterated with ``async for``. The server
    is asked whether it is there on entering the block.
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        timeout: float = 30,
        max_retries: int = 3,
        *,
        token: str | None = None,
    ) -> None:
        super().__init__(base_url, timeout, max_retries, token=token)
        self._transport = AwaitingTransport(self.base_url, timeout, self._token)
        self.session = self._transport.session

    async def close(self) -> None:
        await self.session.aclose()

    async def __aenter__(self) -> Self:
        try:
            await arun(self._greet(), self._transport)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @cached_property
    def artifacts(self) -> AsyncArtifactsAPI:
        return AsyncArtifactsAPI(self)

    @cached_property
    def remote(self) -> AsyncRemoteAPI:
        return AsyncRemoteAPI(self)

    @overload
    async def get_metrics(
        self,
        run_id: str,
        metric_names: Iterable[str] | None = None,
        limit: int | None = None,
        *,
        as_dataframe: Literal[False] = False,
    ) -> dict[str, Any]: ...

    @overload
    async def get_metrics(
        self,
        run_id: str,
        metric_names: Iterable[str] | None = None,
        limit: int | None = None,
        *,
        as_dataframe: Frame,
    ) -> Any: ...

    async def get_metrics(
        self,
        run_id: str,
        metric_names: Iterable[str] | None = None,
        limit: int | None = None,
        *,
        as_dataframe: bool | frames.Library = False,
    ) -> Any:
        """:meth:`RunicornClient.get_metrics`, asynchronously."""
        return await arun(
            _metrics(self, run_id, metric_names, limit, as_dataframe=as_dataframe), self._transport
        )

    get = awaiting(http.get)
    post = awaiting(http.post)
    put = awaiting(http.put)
    patch = awaiting(http.patch)
    delete = awaiting(http.delete)

    health_check = awaiting(calls.health_check)
    list_experiments = awaiting(calls.list_experiments)
    iter_experiments = aiterating(calls.iter_experiments)
    get_experiment = awaiting(calls.get_experiment)
    get_run = get_experiment
    list_projects = awaiting(calls.list_projects)
    check_status = awaiting(calls.check_status)
    get_environment = awaiting(calls.get_environment)

    soft_delete = awaiting(calls.soft_delete)
    restore = awaiting(calls.restore)
    list_recycle_bin = awaiting(calls.list_recycle_bin)
    empty_recycle_bin = awaiting(calls.empty_recycle_bin)
    tag_experiment = awaiting(calls.tag_experiment)
    set_tags = awaiting(calls.set_tags)
    set_notes = awaiting(calls.set_notes)
    search_experiments = awaiting(calls.search_experiments)
    delete_experiments = awaiting(calls.delete_experiments)
    cleanup_experiments = awaiting(calls.cleanup_experiments)

    get_system_metrics = awaiting(calls.get_system_metrics)
    follow_metrics = aiterating(calls.follow_metrics)
    follow_logs = logs.afollow_logs

    get_config = awaiting(calls.get_config)
    update_config = awaiting(calls.update_config)
    get_gpu_info = awaiting(calls.get_gpu_info)

    export_experiment = awaiting(calls.export_experiment)
    export_report = awaiting(calls.export_report)
    download_runs = awaiting(calls.download_runs)
    import_archive = awaiting(calls.import_archive)


def _metrics(
    self: _Client,
    run_id: str,
    metric_names: Iterable[str] | None,
    limit: int | None,
    *,
    as_dataframe: bool | frames.Library,
) -> Steps[Any]:
    if not as_dataframe:
        return calls.get_metrics(self, run_id, metric_names, limit)
    library: frames.Library = "pandas" if as_dataframe is True else as_dataframe
    return frames.metrics(self, run_id, library, metric_names, limit)


def connect(
    base_url: str = BASE_URL, timeout: float = 30, max_retries: int = 3, *, token: str | None = None
) -> RunicornClient:
    """A :class:`RunicornClient`."""
    return RunicornClient(base_url, timeout, max_retries, token=token)
