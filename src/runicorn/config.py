"""The user's configuration: ``config.json`` and ``rate_limits.json`` in ``user_config_dir()``.

Writers merge into what is there, under a lock and in one step. Secrets never lie in it in the
clear (``runicorn.credentials``).
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import credentials, layout

logger = logging.getLogger("runicorn.config")

MOST_CONNECTIONS = 10
SECRETS = ("password", "passphrase", "private_key")
"""The fields of a saved connection that are encrypted, and left out of lists."""

AUTH_METHODS = ("password", "key", "agent")

DEFAULT_RATE_LIMITS: dict[str, Any] = {
    "default": {"max_requests": 60, "window_seconds": 60, "burst_size": None},
    "endpoints": {},
    "settings": {
        "enable_rate_limiting": True,
        "log_violations": True,
        "whitelist_localhost": False,
        "custom_headers": {
            "rate_limit_header": "X-RateLimit-Limit",
            "rate_limit_remaining_header": "X-RateLimit-Remaining",
            "rate_limit_reset_header": "X-RateLimit-Reset",
        },
    },
}


class ConfigError(ValueError):
    """What was asked for cannot be configured; says why."""


def config_file() -> Path:
    return layout.user_config_dir() / "config.json"


def rate_limits_file() -> Path:
    return layout.user_config_dir() / "rate_limits.json"


def load(path: Path | None = None) -> dict[str, Any]:
    """The content of ``config.json``; empty if there is none or it cannot be read."""
    return layout.read_json(path or config_file())


def change(
    changed: Callable[[dict[str, Any]], dict[str, Any]], path: Path | None = None
) -> dict[str, Any]:
    """Replace the document by what *changed* makes of it, under its lock; return that.

    A file that is there but damaged is not overwritten: ConfigError. OSError passes through.
    """
    path = path or config_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with layout.locked(path):
        content = path.read_bytes() if path.exists() else b"{}"
        data = layout.parse_json(content or b"{}")
        if data is None:
            raise ConfigError(f"{path} is damaged: correct or remove it.")
        data = changed(data)
        layout.write_json(path, data)
    return data


# -- the storage root --------------------------------------------------------------------------


def absolute_path(text: object) -> Path:
    """*text* with ``~`` and environment variables filled in; ConfigError unless absolute."""
    if not isinstance(text, str) or not text.strip():
        raise ConfigError("path is required")
    path = Path(os.path.expanduser(os.path.expandvars(text.strip())))
    if "\x00" in text or not path.is_absolute():
        raise ConfigError("path must be absolute")
    return Path(os.path.abspath(path))


def user_root_dir() -> str:
    """The configured storage root; empty if there is none."""
    configured = load().get("user_root_dir")
    return configured if isinstance(configured, str) else ""


def set_user_root_dir(path: str | os.PathLike[str]) -> Path:
    """Make *path* the storage root of whoever names no other; creates the folder.

    Raises ConfigError for a path that is not absolute, OSError for one that cannot be used.
    """
    root = absolute_path(os.fspath(path))
    (root / layout.RUNS).mkdir(parents=True, exist_ok=True)
    change(lambda data: {**data, "user_root_dir": str(root)})
    return root


# -- saved SSH connections ---------------------------------------------------------------------


def ssh_connections() -> list[dict[str, Any]]:
    """The saved connections, oldest first, without their secrets but saying which there are."""
    return [_without_secrets(entry) for entry in _connections(_with_current_secrets())]


def _without_secrets(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: value for name, value in entry.items() if name not in SECRETS},
        "key": connection_key(entry),
        "has_password": bool(entry.get("password")),
        "has_private_key": bool(entry.get("private_key")),
    }


def shown_ssh_connection(key: str) -> dict[str, Any] | None:
    """One saved connection without its secrets, by a key of either form; None if there is none."""
    entries = _connections(_with_current_secrets())
    return next((_without_secrets(entry) for entry in entries if key in _keys(entry)), None)


def ssh_connection(key: str) -> dict[str, Any] | None:
    """One saved connection with its secrets, for connecting; None if there is none.

    *key* may have either form: ``host:port@user`` or the documented ``user@host:port@user``.
    """
    for entry in _connections(_with_current_secrets()):
        if key in _keys(entry):
            found = {**entry, "key": connection_key(entry)}
            for name in SECRETS:
                if found.get(name):
                    found[name] = credentials.decrypt(found[name], _purpose(entry, name))
            return found
    return None


def save_ssh_connection(connection: dict[str, Any], *, instead_of: str | None = None) -> str:
    """Save or replace a connection as the newest; its key. The oldest beyond ten goes.

    Secrets are kept only with ``remember_password``. *instead_of*: the key of the one that is
    edited; it goes, and secrets that are not given again stay if they are for the same key.
    Raises ConfigError or CredentialsError.
    """
    entry = _sealed(connection)
    key = connection_key(entry)

    def saved(data: dict[str, Any]) -> dict[str, Any]:
        others = []
        for old in _connections(data):
            if connection_key(old) not in (key, instead_of):
                others.append(old)
            elif instead_of == key:
                _keep_secrets(entry, old)
        return {**data, "ssh_connections": [*others, entry][-MOST_CONNECTIONS:]}

    change(saved)
    return key


def replace_ssh_connections(connections: list[Any]) -> None:
    """Save these connections instead of all that are saved; of more than ten the last ones.

    A secret that is remembered and not among them stays what it was: lists come without secrets.
    Raises ConfigError or CredentialsError; nothing has changed then.
    """
    if not all(isinstance(one, dict) for one in connections):
        raise ConfigError("connections must be a list of objects")
    entries = {connection_key(entry): entry for entry in map(_sealed, connections)}

    def replaced(data: dict[str, Any]) -> dict[str, Any]:
        for old in _connections(data):
            _keep_secrets(entries.get(connection_key(old), {}), old)
        return {**data, "ssh_connections": [*entries.values()][-MOST_CONNECTIONS:]}

    change(replaced)


def remove_ssh_connection(key: str) -> bool:
    """Forget a connection; whether there was one."""
    before = _connections(load())
    if not any(key in _keys(entry) for entry in before):
        return False
    change(
        lambda data: {
            **data,
            "ssh_connections": [e for e in _connections(data) if key not in _keys(e)],
        }
    )
    return True


def _sealed(connection: dict[str, Any]) -> dict[str, Any]:
    """The entry to save for *connection*, its secrets encrypted, if they are to be kept."""
    entry = _checked(connection)
    if entry["remember_password"]:
        for name in SECRETS:
            if connection.get(name):
                entry[name] = credentials.encrypt(connection[name], _purpose(entry, name))
    return entry


def _keep_secrets(entry: dict[str, Any], old: dict[str, Any]) -> None:
    if entry.get("remember_password"):
        for name in SECRETS:
            if old.get(name):
                entry.setdefault(name, old[name])


def connection_key(entry: dict[str, Any]) -> str:
    return f"{entry.get('host')}:{entry.get('port')}@{entry.get('username')}"


def _keys(entry: dict[str, Any]) -> tuple[str, str]:
    key = connection_key(entry)
    return key, f"{entry.get('username')}@{key}"


def _purpose(entry: dict[str, Any], name: str) -> str:
    """Binds a secret to its connection: nobody can make us send it to another host."""
    return f"ssh {connection_key(entry)} {name}"


def _connections(data: dict[str, Any]) -> list[dict[str, Any]]:
    entries = data.get("ssh_connections")
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []


def _checked(connection: dict[str, Any]) -> dict[str, Any]:
    host, username = connection.get("host"), connection.get("username")
    if not (isinstance(host, str) and host.strip() and isinstance(username, str) and username):
        raise ConfigError("host and username are required")
    if any(ord(c) < 33 or c in "/\\" for c in host.strip() + username):
        raise ConfigError("host and username must not contain spaces or slashes")
    port = connection.get("port", 22)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise ConfigError("port must be a number from 1 to 65535")
    method = connection.get("auth_method", "password")
    if method not in AUTH_METHODS:
        raise ConfigError(f"auth_method must be one of {', '.join(AUTH_METHODS)}")
    remember = connection.get("remember_password", False)
    if not isinstance(remember, bool):
        raise ConfigError("remember_password must be true or false")
    for name in ("name", "private_key_path", *SECRETS):
        if not isinstance(connection.get(name) or "", str):
            raise ConfigError(f"{name} must be text")
    entry = {
        "host": host.strip(),
        "port": port,
        "username": username,
        "name": connection.get("name") or "",
        "remember_password": remember,
        "auth_method": method,
    }
    if connection.get("private_key_path"):
        entry["private_key_path"] = connection["private_key_path"]
    return entry


def _with_current_secrets() -> dict[str, Any]:
    """``config.json``; secrets that Runicorn 0.4 left in it are encrypted anew the first time.

    One that cannot be read any more is dropped: it has to be entered again.
    """
    data = load()
    if all(
        credentials.is_current(str(entry[name]))
        for entry in _connections(data)
        for name in SECRETS
        if entry.get(name)
    ):
        return data

    def renewed(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "ssh_connections": [_renewed(entry) for entry in _connections(data)]}

    return change(renewed)


def _renewed(entry: dict[str, Any]) -> dict[str, Any]:
    entry = dict(entry)
    for name in SECRETS:
        stored = str(entry.get(name) or "")
        if stored and not credentials.is_current(stored):
            purpose = _purpose(entry, name)
            try:
                secret = credentials.decrypt(stored, purpose)
            except credentials.CredentialsError as error:
                logger.warning("%s of %s: %s", name, connection_key(entry), error)
                del entry[name]
            else:
                entry[name] = credentials.encrypt(secret, purpose)
    return entry


# -- rate limits -------------------------------------------------------------------------------


def get_rate_limit_config() -> dict[str, Any]:
    """The content of ``rate_limits.json``, or the defaults where there is none to read."""
    try:
        content = rate_limits_file().read_bytes()
    except OSError:
        return copy.deepcopy(DEFAULT_RATE_LIMITS)
    data = layout.parse_json(content)
    if data is None:
        logger.warning("%s cannot be read; the defaults apply.", rate_limits_file())
        return copy.deepcopy(DEFAULT_RATE_LIMITS)
    return data


def save_rate_limit_config(config: dict[str, Any]) -> None:
    """Replace ``rate_limits.json``. Never raises: a failure is logged, as in 0.4."""
    path = rate_limits_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        layout.write_json(path, config)
    except (OSError, TypeError, ValueError) as error:
        logger.error("Could not write %s: %s", path, error)
