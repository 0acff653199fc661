"""What the owner holds, as rows: written by it, read by every process.

In the embedded default they are written by whoever is about to read them or has asked for a change,
so that they are never late and nothing is written while nobody looks; a worker writes them every
second and after each command. Rows that an earlier process left are marked: sessions and viewers
ended with it, and syncs were interrupted.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from django.db import connections, models, router, transaction

from ..models import Session, SyncJob, Viewer
from ..ssh.connections import Connection, pool
from ..sync import registry
from ..sync.session import Sync
from ..viewer import viewers

LOST = "It ended with the process of the server, which has stopped or was started anew"

LOST_SECONDS = 86400
"""How long what was lost is shown, unless somebody removes it."""

_lock = threading.Lock()
_database: object = None
_written: dict[type[models.Model], dict[str, dict[str, Any]]] = {}


def publish() -> None:
    """Write what has changed since the last time. For the owner only."""
    global _database
    with _lock:
        database = connections[router.db_for_write(Session)].settings_dict["NAME"]
        if database != _database:  # the first time, or the storage root has moved
            mark_lost()
            _written.clear()
            _database = database
        for model, rows in _snapshot().items():
            before = _written.get(model, {})
            changed = [fields for key, fields in rows.items() if before.get(key) != fields]
            gone = before.keys() - rows.keys()
            if changed or gone:
                with transaction.atomic(using=router.db_for_write(model)):
                    _upsert(model, changed)
                    model._default_manager.filter(pk__in=gone).delete()
            _written[model] = rows


def forget() -> None:
    """Write everything anew the next time: others may have changed the rows."""
    with _lock:
        _written.clear()


def mark_lost() -> None:
    """Say of all rows that the process that owned them has ended."""
    now = time.time()
    Viewer.objects.filter(lost_at=None, status="stopped").delete()
    ends: list[tuple[type[models.Model], dict[str, Any]]] = [
        (Session, {"is_open": False, "is_current": False, "legacy_sessions": []}),
        (SyncJob, {"is_alive": False, "is_selected": False}),
        (Viewer, {"status": "stopped", "ended_at": now}),
    ]
    for model, changes in ends:
        rows = model._default_manager
        rows.filter(lost_at__lt=now - LOST_SECONDS).delete()
        rows.filter(lost_at=None).update(lost_at=now, last_error=LOST, **changes)


def _upsert(model: type[models.Model], rows: list[dict[str, Any]]) -> None:
    names = [field.name for field in model._meta.concrete_fields if not field.primary_key]
    model._default_manager.bulk_create(
        [model(**fields) for fields in rows],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=names,
    )


def _snapshot() -> dict[type[models.Model], dict[str, dict[str, Any]]]:
    return {
        Session: {one.id: clean(session_fields(one)) for one in pool.all()},
        SyncJob: {one.id: clean(sync_fields(one)) for one in registry.syncs()},
        Viewer: {one.id: clean(viewer_fields(one)) for one in viewers.sessions()},
    }


def session_fields(connection: Connection) -> dict[str, Any]:
    address = connection.address
    sessions = pool.sessions()
    return {
        "id": connection.id,
        "host": address.host,
        "port": address.port,
        "username": address.username,
        "is_open": connection.is_open,
        "is_current": connection is pool.current,
        "holders": sorted(connection.holders),
        "legacy_sessions": [name for name, one in sessions.items() if one is connection],
        "connected_at": connection.connected_at,
        "reconnect_count": connection.reconnect_count,
        "last_error": connection.last_error,
    }


def sync_fields(sync: Sync) -> dict[str, Any]:
    return {
        "id": sync.id,
        "mode": sync.mode,
        "session_id": sync.session_id,
        "connection_id": sync.connection.id,
        "remote_root": sync.remote_root,
        "local_root": str(sync.local_root),
        "interval": sync.interval,
        "auto_sync": sync.auto_sync,
        "cache_bytes": sync.cache_bytes,
        "source": sync.claims.source,
        "former_source": sync.claims.former,
        "is_alive": sync.is_alive,
        "is_selected": sync.is_selected,
        "last_error": sync.last_error,
        "started_at": sync.started_at,
        "last_sync_at": sync.last_sync_at,
        "next_sync_at": sync.next_sync_at,
        "scans": sync.scans,
        "cached_experiments": len(sync.claims.runs()),
        "cached_artifacts": len(sync.claims.artifacts()),
        "stats": sync.statistics(),
        "progress": sync.progress.describe(),
    }


def viewer_fields(viewer: viewers.Session) -> dict[str, Any]:
    return {
        "id": viewer.id,
        "connection_id": viewer.connection.id,
        "remote_root": viewer.remote_root,
        "status": viewer.status,
        "environment": viewer.environment.path,
        "local_port": viewer.local_port,
        "started_at": viewer.started_at,
        "ended_at": viewer.ended_at,
        "last_error": viewer.last_error,
        "details": viewer.details(),
    }


def clean(value: Any) -> Any:
    """Return *value* without what PostgreSQL does not store, whatever a host has sent."""
    if isinstance(value, str):
        return value.replace("\0", "�").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {name: clean(one) for name, one in value.items()}
    if isinstance(value, list):
        return [clean(one) for one in value]
    return value
