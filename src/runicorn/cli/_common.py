"""What the commands share: how they are declared, and how they speak."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..api import RunicornClient

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = Any

COLOURS = {"red": 31, "green": 32, "yellow": 33, "bold": 1, "dim": 2}


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    help: str,
    description: str,
    examples: Sequence[str],
) -> argparse.ArgumentParser:
    """A command that calls *run*, which returns the exit code."""
    lines = "\n".join(f"  {line}" for line in examples)
    parser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--storage",
        metavar="PATH",
        help="storage folder (default: RUNICORN_DIR, then the configured one, then ./.runicorn)",
    )


def add_server(parser: argparse.ArgumentParser) -> None:
    """``--server`` and ``--token``, for commands that can act on a server instead."""
    parser.add_argument(
        "--server",
        metavar="URL",
        help="act on this running server instead of a folder, such as http://127.0.0.1:23300",
    )
    parser.add_argument(
        "--token",
        help="access token for --server; RUNICORN_TOKEN keeps it out of the process list",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def client(args: argparse.Namespace) -> RunicornClient:
    """A client for ``--server``. Raises ConnectionError, or ImportError without httpx."""
    from ..api import connect

    return connect(args.server, token=args.token)


def fail(message: str) -> int:
    """Say what went wrong; the exit code for it. v0.4 says it on stdout."""
    print(paint(message, "red"))
    return 1


def print_json(data: Any) -> None:
    print(json.dumps(data, ensure_ascii=False, indent=2))


def confirm(question: str) -> bool:
    """Whether the person at the terminal answers *question* with yes; no input means no."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def paint(text: str, colour: str) -> str:
    """*text* in *colour* on a terminal (see https://no-color.org), and as it is elsewhere."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\033[{COLOURS[colour]}m{text}\033[0m"
