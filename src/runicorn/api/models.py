"""Dataclasses for who prefers attributes to keys: ``Experiment.from_dict(client.get_run(id))``.

Times are Unix seconds, the ``…_datetime`` properties local time without a zone; sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

_SESSION_NAMES = {
    "session_id": ("sessionId",),
    "local_port": ("localPort",),
    "remote_port": ("remotePort",),
    "remote_host": ("remoteHost", "host"),  # the latter is where the viewer listens there
    "remote_root": ("remoteRoot",),
    "remote_pid": ("remotePid",),
}


def session_members(session: Mapping[str, Any]) -> dict[str, Any]:
    """A viewer session as the server tells it, with its members in snake case too.

    Those are ``session_id, connection_id, local_port, remote_port, remote_host, remote_root,
    remote_pid, status, created_at`` (Unix seconds) and ``local_url``.
    """
    members: dict[str, Any] = {}
    for ours, theirs in _SESSION_NAMES.items():
        if (name := next((name for name in (ours, *theirs) if name in session), None)) is not None:
            members[ours] = session[name]
    if isinstance(started := session.get("startedAt"), int | float):  # milliseconds
        members["created_at"] = started / 1000
    if "sshPort" in session:
        address = f"{session.get('username')}@{members.get('remote_host')}:{session['sshPort']}"
        members["connection_id"] = session.get("connection_id", address)
    url = f"http://localhost:{members.get('local_port', 0)}"
    return {"created_at": 0, "local_url": url, **session, **members}


class _Model:
    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From an answer of the client; members that are unknown or None are passed over."""
        names = {f.name for f in fields(cls)}  # type: ignore[arg-type]  # each is a dataclass
        return cls(**{k: v for k, v in data.items() if k in names and v is not None})


@dataclass
class Experiment(_Model):
    id: str
    project: str = "default"
    name: str = "default"
    status: str = "unknown"
    created_at: float = 0
    updated_at: float = 0
    summary: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)

    @property
    def created_datetime(self) -> datetime:
        return datetime.fromtimestamp(self.created_at)

    @property
    def updated_datetime(self) -> datetime:
        return datetime.fromtimestamp(self.updated_at)


@dataclass
class MetricPoint(_Model):
    step: int
    value: float
    timestamp: float = 0


@dataclass
class MetricSeries:
    name: str
    points: list[MetricPoint] = field(default_factory=list)

    @classmethod
    def from_dict(cls, name: str, points_data: Iterable[Mapping[str, Any]]) -> Self:
        return cls(name, [MetricPoint.from_dict(point) for point in points_data])

    @property
    def values(self) -> list[float]:
        return [point.value for point in self.points]

    @property
    def steps(self) -> list[int]:
        return [point.step for point in self.points]

    def last_value(self) -> float | None:
        return self.points[-1].value if self.points else None

    def min_value(self) -> float | None:
        return min(self.values, default=None)

    def max_value(self) -> float | None:
        return max(self.values, default=None)


@dataclass
class Artifact(_Model):
    name: str
    version: int
    type: str = "custom"
    created_at: float = 0
    size_bytes: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.name}:v{self.version}"

    @property
    def created_datetime(self) -> datetime:
        return datetime.fromtimestamp(self.created_at)

    @property
    def size_mb(self) -> float:
        return self.size_bytes / 1024**2


@dataclass
class RemoteSession(_Model):
    session_id: str
    connection_id: str = ""
    remote_host: str = ""
    remote_port: int = 0
    local_port: int = 0
    remote_root: str = ""
    status: str = "unknown"
    created_at: float = 0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Also from what the server itself says, in camel case."""
        return super().from_dict(session_members(data))

    @property
    def local_url(self) -> str:
        return f"http://localhost:{self.local_port}"


@dataclass
class Project(_Model):
    name: str
    experiment_count: int = 0
    latest_update: float = 0
