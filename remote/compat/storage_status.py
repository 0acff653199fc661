"""What 0.4's remote storage tells of itself, in any process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from artifacts.models import Blob, Version

from ..models import Session, SyncJob
from ..owner import asking
from ..sync import cache
from ..sync.ledger import Claims
from .on_demand import SESSION


def current() -> SyncJob | None:
    """Return the sync of the remote storage, an interrupted one too."""
    return asking.rows(SyncJob).filter(session_id=SESSION).last()


def mode() -> str:
    return _mode(current())


def _mode(job: SyncJob | None) -> str:
    return "remote" if job is not None and job.is_selected else "local"


def _is_open(job: SyncJob) -> bool:
    session = Session.objects.filter(pk=job.connection_id).first()
    return job.is_alive and session is not None and session.is_open


def describe() -> dict[str, Any]:
    """Return what ``GET /remote/status`` tells."""
    job = current()
    if job is None or job.lost_at is not None:
        return {
            "mode": "local",
            "connected": False,
            "status": "disconnected",
            "sync_progress": None,
            "stats": None,
        }
    is_open = _is_open(job)
    if not job.is_alive:
        state = "error"
    elif not is_open:
        state = "connecting"
    else:
        state = "syncing" if job.progress["status"] == "running" else "connected"
    claims = _claims(job)
    described = cache.describe(claims, job.cache_bytes)
    return {
        "mode": _mode(job),
        "connected": is_open,
        "status": state,
        "sync_progress": {**job.progress, "errors": [job.last_error] if job.last_error else []},
        "stats": {
            "total_artifacts": job.cached_artifacts,
            **_statistics(job, claims, described["cached_bytes"], is_open),
            "max_cache_size_bytes": described["max_bytes"],
            "cached_experiments": described["cached_runs"],
        },
    }


def artifact_statistics() -> dict[str, Any]:
    """Return what ``GET /artifacts/stats`` adds in remote mode."""
    job = current()
    if job is None or not job.is_selected:
        return {}
    claims = _claims(job)
    cached_bytes = cache.describe(claims, job.cache_bytes)["cached_bytes"]
    return _statistics(job, claims, cached_bytes, _is_open(job))


def _claims(job: SyncJob) -> Claims:
    return Claims(Path(job.local_root), job.source, job.former_source)


def _statistics(job: SyncJob, claims: Claims, cached_bytes: int, is_open: bool) -> dict[str, Any]:
    theirs = Version.objects.filter(artifact__directory__in=claims.artifacts())
    here = Blob.objects.filter(files__version__in=theirs.local()).distinct()
    return {
        "connected": is_open,
        "last_sync": job.last_sync_at,
        "cached_artifacts": job.cached_artifacts,
        "cache_size_bytes": cached_bytes + here.stored_bytes(),
        "remote_size_bytes": theirs.totals()["size_bytes"],
        "sync_count": job.scans,
        "error_count": int(job.last_error is not None),
    }
