"""Ask a Runicorn server from Python (``pip install 'runicorn[client]'``).

>>> from runicorn import api
>>> with api.connect() as client:
...     for run in client.list_experiments(project="vision", limit=3):
...         print(run["id"], run["status"])
"""

from __future__ import annotations

try:
    import httpx as _httpx  # noqa: F401  # asked for first, to say what is missing
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "runicorn.api needs httpx: pip install 'runicorn[client]'", name=_error.name
    ) from None

from . import utils
from ._client import AsyncRunicornClient, RunicornClient, connect
from .artifacts import ArtifactsAPI, AsyncArtifactsAPI
from .exceptions import (
    AuthenticationError,
    BadRequestError,
    ConnectionError,
    NotFoundError,
    RateLimitError,
    RunicornAPIError,
    ServerError,
)
from .models import Artifact, Experiment, MetricPoint, MetricSeries, Project, RemoteSession
from .remote import AsyncRemoteAPI, RemoteAPI

__all__ = [
    "Artifact",
    "ArtifactsAPI",
    "AsyncArtifactsAPI",
    "AsyncRemoteAPI",
    "AsyncRunicornClient",
    "AuthenticationError",
    "BadRequestError",
    "ConnectionError",
    "Experiment",
    "MetricPoint",
    "MetricSeries",
    "NotFoundError",
    "Project",
    "RateLimitError",
    "RemoteAPI",
    "RemoteSession",
    "RunicornAPIError",
    "RunicornClient",
    "ServerError",
    "connect",
    "utils",
]
