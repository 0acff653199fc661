"""Which host keys were confirmed: ``known_hosts`` in the user's configuration folder.

OpenSSH's format. Lines that are not ours (hashed names, markers, comments) are kept as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncssh

from runicorn import layout

LOCK_SECONDS = 10
SSH_PORT = 22


class Entry(NamedTuple):
    names: list[str]
    key_type: str
    key: str


def path() -> Path:
    return layout.user_config_dir() / "known_hosts"


def name_of(host: str, port: int) -> str:
    """How the file calls a host."""
    return host if port == SSH_PORT else f"[{host}]:{port}"


def keys_of(host: str, port: int) -> list[asyncssh.SSHKey]:
    """Return the keys that were confirmed for this host; unreadable ones are passed over."""
    keys = []
    for entry in filter(None, map(_parse, _lines())):
        if name_of(host, port) in entry.names:
            try:
                keys.append(asyncssh.import_public_key(f"{entry.key_type} {entry.key}"))
            except asyncssh.KeyImportError:
                continue
    return keys


def describe(host: str, port: int, key: asyncssh.SSHKey) -> dict[str, Any]:
    """Return a key as the confirmation protocol shows it."""
    return {
        "host": host,
        "port": port,
        "known_hosts_host": name_of(host, port),
        "key_type": key.get_algorithm(),
        "fingerprint_sha256": key.get_fingerprint(),
        "public_key": public_text(key),
    }


def public_text(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


def entries() -> list[dict[str, Any]]:
    """Return every confirmed key, one entry per host."""
    found = []
    for entry in filter(None, map(_parse, _lines())):
        try:
            key = asyncssh.import_public_key(f"{entry.key_type} {entry.key}")
        except asyncssh.KeyImportError:
            continue
        for name in entry.names:
            if not name.startswith("|"):
                host, port = _split(name)
                found.append(
                    {
                        "host": host,
                        "port": port,
                        "known_hosts_host": name,
                        "key_type": entry.key_type,
                        "key_base64": entry.key,
                        "fingerprint_sha256": key.get_fingerprint(),
                    }
                )
    return found


def accept(host: str, port: int, key: asyncssh.SSHKey) -> None:
    """Trust *key* for this host from now on, instead of an earlier one of its type."""
    line = f"{name_of(host, port)} {public_text(key)}"
    without = _without(name_of(host, port), key.get_algorithm())
    _change(lambda lines: [*without(lines), line])


def accept_text(host: str, port: int, public_key: str) -> None:
    """The same for a key as ``describe`` shows it."""
    accept(host, port, asyncssh.import_public_key(public_key))


def remove(host: str, port: int, key_type: str) -> bool:
    """Trust no key of this type for this host any more, and return whether one was trusted."""
    return _change(_without(name_of(host, port), key_type))


def _without(name: str, key_type: str) -> Callable[[list[str]], list[str]]:
    """Return a change that takes a host out of the lines that name it; a line may name several."""

    def left(lines: list[str]) -> Iterator[str]:
        for line in lines:
            entry = _parse(line)
            if entry is None or entry.key_type != key_type or name not in entry.names:
                yield line
            elif others := [other for other in entry.names if other != name]:
                yield " ".join([",".join(others), *line.split(maxsplit=1)[1:]])

    return lambda lines: list(left(lines))


def _change(changed: Callable[[list[str]], list[str]]) -> bool:
    path().parent.mkdir(parents=True, exist_ok=True)
    with layout.locked(path(), timeout=LOCK_SECONDS):
        before = _lines()
        after = changed(before)
        if after != before:
            layout.write_bytes(path(), _joined(after))
    return after != before


def _lines() -> list[str]:
    try:
        return path().read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []


def _joined(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def _parse(line: str) -> Entry | None:
    fields = line.split()
    if len(fields) < 3 or fields[0].startswith(("#", "@")):
        return None
    return Entry(fields[0].split(","), fields[1], fields[2])


def _split(name: str) -> tuple[str, int]:
    if name.startswith("[") and "]:" in name:
        host, _, port = name[1:].rpartition("]:")
        if port.isdecimal():
            return host, int(port)
    return name, SSH_PORT
