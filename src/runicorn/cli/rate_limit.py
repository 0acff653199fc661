"""``runicorn rate-limit``: how often a client may ask; a running server notices at once."""

from __future__ import annotations

import argparse
from typing import Any

from ._common import (
    Commands,
    add_command,
    add_json,
    add_no_server,
    confirm,
    fail,
    paint,
    print_json,
)

TOGGLES = {
    "enable_rate_limiting": ("enable", "disable"),
    "log_violations": ("log_violations", "no_log_violations"),
    "whitelist_localhost": ("whitelist_localhost", "no_whitelist_localhost"),
}
_WINDOW_S = 60


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "rate-limit",
        run,
        help="see and set how often a client may ask",
        description="See and set how many requests a client may send. "
        "A running viewer follows without a restart.",
        examples=[
            "runicorn rate-limit --action list",
            "runicorn rate-limit --action set --endpoint /api/runs --max-requests 600 --window 60",
            "runicorn rate-limit --action settings --whitelist-localhost",
        ],
    )
    parser.add_argument("--action", choices=list(ACTIONS), default="show", help="%(default)s")
    parser.add_argument("--endpoint", metavar="PATH", help="such as /api/runs")
    parser.add_argument("--max-requests", type=int, metavar="N")
    parser.add_argument("--window", type=int, default=_WINDOW_S, help="seconds (%(default)s)")
    parser.add_argument("--burst", type=int, metavar="N", help="at most so many in one second")
    parser.add_argument("--description", metavar="TEXT")
    for names in TOGGLES.values():
        for name in names:
            parser.add_argument(f"--{name.replace('_', '-')}", action="store_true")
    parser.add_argument("--yes", action="store_true", help="reset without asking")
    add_json(parser)
    add_no_server(parser, "limits are set on the machine of the server, which follows at once")


CHANGING = ("set", "remove", "settings", "reset")


def run(args: argparse.Namespace) -> int:
    from .. import config, layout

    action = ACTIONS[args.action]
    if args.action not in CHANGING:
        return action(args, config.get_rate_limit_config())
    path = config.rate_limits_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with layout.locked(path):  # another command may be changing it, too
            if args.action != "reset":
                layout.load_json(path)  # what cannot be read is not written over
            return action(args, config.get_rate_limit_config())
    except layout.DamagedDocument as error:
        return fail(f"Error: {error} Correct it, or begin anew with --action reset.")
    except (OSError, TimeoutError) as error:
        return fail(f"Error: {path} cannot be written: {error}")


def _show(args: argparse.Namespace, config: dict[str, Any]) -> int:
    print_json(config)
    return 0


def _list(args: argparse.Namespace, config: dict[str, Any]) -> int:
    endpoints = config.get("endpoints") or {}
    default = config.get("default") or {}
    if args.json:
        print_json({"default": default, "endpoints": endpoints})
        return 0
    print("Default:")
    print(f"  {_requests(default)}")
    print()
    if not endpoints:
        print("No endpoint-specific limits configured.")
        return 0
    print("Endpoints:")
    for path, limit in sorted(endpoints.items()):
        burst = f" (burst: {limit['burst_size']})" if limit.get("burst_size") else ""
        text = f" - {limit['description']}" if limit.get("description") else ""
        print(f"  {path}: {_requests(limit)}{burst}{text}")
    return 0


def _requests(limit: dict[str, Any]) -> str:
    return f"{limit.get('max_requests', 60)}/{limit.get('window_seconds', _WINDOW_S)}s"


def _get(args: argparse.Namespace, config: dict[str, Any]) -> int:
    if not args.endpoint:
        return fail("Error: --endpoint is required for 'get' action")
    own = (config.get("endpoints") or {}).get(args.endpoint)
    limit = own if own is not None else config.get("default") or {}
    if args.json:
        print_json({"endpoint": args.endpoint, "is_default": own is None, **limit})
        return 0
    print(f"Endpoint: {args.endpoint}{'' if own is not None else ' (using default)'}")
    print(f"  Max Requests: {limit.get('max_requests', 60)}")
    print(f"  Window: {limit.get('window_seconds', _WINDOW_S)}s")
    print(f"  Burst Size: {limit.get('burst_size')}")
    if limit.get("description"):
        print(f"  Description: {limit['description']}")
    return 0


def _set(args: argparse.Namespace, config: dict[str, Any]) -> int:
    if not args.endpoint or args.max_requests is None:
        return fail("Error: --endpoint and --max-requests are required for 'set' action")
    limit = {
        "max_requests": args.max_requests,
        "window_seconds": args.window,
        "burst_size": args.burst,
    }
    if args.description:
        limit["description"] = args.description
    config.setdefault("endpoints", {})[args.endpoint] = limit
    if reason := invalid(config):
        return fail(f"✗ Configuration error: {reason}")
    if not _save(config):
        return 1
    print(paint(f"✓ Updated rate limit for {args.endpoint}", "green"))
    print(f"  Max Requests: {_requests(limit)}")
    if args.burst:
        print(f"  Burst Size: {args.burst}")
    return 0


def _remove(args: argparse.Namespace, config: dict[str, Any]) -> int:
    if not args.endpoint:
        return fail("Error: --endpoint is required for 'remove' action")
    if (config.get("endpoints") or {}).pop(args.endpoint, None) is None:
        print(paint(f"⚠ No specific rate limit found for {args.endpoint}", "yellow"))
        return 0
    if not _save(config):
        return 1
    print(paint(f"✓ Removed rate limit for {args.endpoint}", "green"))
    return 0


def _settings(args: argparse.Namespace, config: dict[str, Any]) -> int:
    settings = config.setdefault("settings", {})
    for name, (on, off) in TOGGLES.items():
        if getattr(args, on) or getattr(args, off):
            settings[name] = bool(getattr(args, on))
    if not _save(config):
        return 1
    is_on = settings.get("enable_rate_limiting", True)
    print(paint("✓ Updated settings:", "green"))
    print(f"  Rate Limiting: {'Enabled' if is_on else 'Disabled'}")
    print(f"  Log Violations: {_yes(settings.get('log_violations', True))}")
    print(f"  Whitelist Localhost: {_yes(settings.get('whitelist_localhost', False))}")
    return 0


def _yes(value: object) -> str:
    return "Yes" if value else "No"


def _reset(args: argparse.Namespace, config: dict[str, Any]) -> int:
    import copy

    from ..config import DEFAULT_RATE_LIMITS

    if not (args.yes or confirm("Reset to default configuration?")):
        print("Cancelled.")
        return 0
    if not _save(copy.deepcopy(DEFAULT_RATE_LIMITS)):
        return 1
    print(paint("✓ Reset to default configuration", "green"))
    return 0


def _validate(args: argparse.Namespace, config: dict[str, Any]) -> int:
    import json

    from ..config import rate_limits_file

    content: Any = config
    if rate_limits_file().exists():  # as it is, not as what stands in for it
        try:
            content = json.loads(rate_limits_file().read_bytes())
        except (OSError, ValueError) as error:
            return fail(f"✗ Configuration error: {error}")
    if reason := invalid(content):
        return fail(f"✗ Configuration error: {reason}")
    print(paint("✓ Configuration is valid", "green"))
    return 0


ACTIONS = {
    "show": _show,
    "list": _list,
    "get": _get,
    "set": _set,
    "remove": _remove,
    "settings": _settings,
    "reset": _reset,
    "validate": _validate,
}


def _save(config: dict[str, Any]) -> bool:
    from .. import config as files

    files.save_rate_limit_config(config)
    if files.get_rate_limit_config() != config:
        fail(f"Error: {files.rate_limits_file()} cannot be written")
        return False
    return True


def invalid(config: Any) -> str | None:
    """Return why the server would not follow *config*; None if it would."""
    if not isinstance(config, dict):
        return "Configuration must be a dictionary"
    endpoints = config.get("endpoints", {})
    if not isinstance(endpoints, dict):
        return "endpoints must be a dictionary"
    if reason := _invalid_limit(config.get("default", {}), ""):
        return reason
    for path, limit in endpoints.items():
        if not path.startswith("/"):
            return f"Endpoint '{path}' must start with /"
        if reason := _invalid_limit(limit, f"{path}: "):
            return reason
    return None


def _invalid_limit(limit: Any, prefix: str) -> str | None:
    if not isinstance(limit, dict):
        return f"{prefix}must be a dictionary"
    for name in ("max_requests", "window_seconds", "burst_size"):
        value = limit.get(name, 1)
        if name == "burst_size" and value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            return f"{prefix}{name} must be an integer"
        if value <= 0:
            return f"{prefix}{name} must be positive"
    return None
