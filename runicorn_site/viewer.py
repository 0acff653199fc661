"""``runicorn viewer``: the site, the indexer and the databases in one process."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import time
from functools import partial

import django
from django.conf import settings


def serve(host: str, port: int, *, reload: bool = False, allow_remote: bool = False) -> int:
    """Listen on *host* and *port* until interrupted. Returns the process's exit code."""
    if not _is_loopback(host):
        if not allow_remote:
            print(
                f"Refused: {host} can be reached from other machines, and nobody would be asked "
                "for a password. Listen on 127.0.0.1, put an authenticating proxy in front, or "
                "insist with --allow-remote."
            )
            return 1
        os.environ["RUNICORN_ALLOW_REMOTE"] = "1"
    try:
        django.setup()
    except OSError as error:
        print(f"The storage folder cannot be used: {error}")
        return 1
    if reload:
        from django.utils import autoreload

        autoreload.run_with_reloader(partial(_serve, host, port, signals=False))
        return 0
    return _serve(host, port)


def _serve(host: str, port: int, *, signals: bool = True) -> int:
    from daphne.server import Server
    from django.db import DatabaseError, connections

    from core.http import threads
    from core.http.errors import translated
    from operation import databases, index_health, storage_root

    try:
        listening = _listen(host, port)
    except OSError as error:
        print(f"Cannot listen on {host}:{port}: {error.strerror or error}. Try another --port.")
        return 1
    try:
        storage_root.prepare_databases()
    except databases.ServerDatabaseDamaged as error:
        print(error)
        return 1
    except (DatabaseError, OSError) as error:
        if (trouble := translated(error)) is None:
            raise
        print(f"The server cannot start. {trouble.detail} ({error})")
        return 1
    connections.close_all()  # this thread makes no more queries
    from runicorn_site.asgi import application

    url_host = f"[{host}]" if ":" in host else host
    print(f"Runicorn {settings.VERSION}: http://{url_host}:{listening.getsockname()[1]}")
    print(f"Storage: {settings.RUNICORN_STORAGE_ROOT}", flush=True)
    storage_root.start_indexer(report=_Terminal())
    index_health.check_if_unclean()
    try:
        Server(
            application,
            endpoints=[f"fd:fileno={listening.fileno()}"],
            signal_handlers=signals,
            server_name="runicorn",
            ping_interval=20,
            ping_timeout=30,
            verbosity=0,
        ).run()
    finally:
        storage_root.stop_indexer()
        threads.close()
        index_health.note_end()
    return 0


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; opened first, so that a port in use is reported at once."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(256)
    except OSError:
        listening.close()
        raise
    return listening


class _Terminal:
    """Show the progress of indexing the existing runs, in one line or one every few seconds."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._printed_at = 0.0
        self._done = False

    def __call__(self, progress) -> None:  # type: ignore[no-untyped-def]
        now = time.monotonic()
        if self._done or not progress.found:
            return
        if progress.state == "watching":
            self._done = True
            duration = now - self._started
            runs = "1 run" if progress.found == 1 else f"{progress.found:,} runs"
            self._print(f"Indexed {runs} in {duration:.1f} s; watching.\n")
        elif now - self._printed_at >= (0.2 if sys.stdout.isatty() else 5):
            self._printed_at = now
            end = "" if sys.stdout.isatty() else "\n"
            self._print(f"Indexing runs: {progress.indexed:,} of {progress.found:,}{end}")

    def _print(self, text: str) -> None:
        start = "\r\033[K" if sys.stdout.isatty() else ""
        print(start + text, end="", flush=True)
