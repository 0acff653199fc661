"""The parts that commands share: their declaration, and their output."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from getpass import getpass
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
    """``--server`` and its token, for commands that can act on a server instead."""
    parser.add_argument(
        "--server",
        metavar="URL",
        help="act on this running server instead of a folder, such as http://127.0.0.1:23300",
    )
    add_token(parser, default=None)


def add_token(parser: argparse.ArgumentParser, **options: Any) -> None:
    """Add the arguments that name a token; *options* go to each of them."""
    parser.add_argument(
        "--token",
        help="access token for --server; everybody on this machine can see it in the process list, "
        "unlike RUNICORN_TOKEN and --token-file",
        **options,
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="read the token from this file; '-' asks for it, or takes a line of the input",
        **options,
    )


def add_no_server(parser: argparse.ArgumentParser, why: str) -> None:
    """``--server`` for a command that works only where the files are: it says so."""

    class Refuse(argparse.Action):
        def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
            parser.error(f"--server is not for this command: {why}")

    parser.add_argument("--server", metavar="URL", action=Refuse, help=f"not here: {why}")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def client(args: argparse.Namespace) -> RunicornClient:
    """A client for ``--server``. Raises ConnectionError, or ImportError without httpx."""
    from ..api import connect

    return connect(args.server, token=_token(args))


def _token(args: argparse.Namespace) -> str | None:
    """Return the given token; None leaves it to ``RUNICORN_TOKEN``."""
    if args.token_file is None:
        return str(args.token) if args.token else None
    try:
        if args.token_file != "-":
            with open(args.token_file, encoding="utf-8") as file:
                token = file.read().strip()
        elif sys.stdin.isatty():
            token = getpass("Token: ").strip()
        else:
            token = sys.stdin.readline().strip()
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise SystemExit(fail(f"Error: the token cannot be read: {error}")) from error
    if not token:
        raise SystemExit(fail(f"Error: there is no token in {args.token_file}"))
    return token


def fail(message: str) -> int:
    """Say what went wrong; the exit code for it. v0.4 says it on stdout."""
    print(paint(message, "red"))
    return 1


def print_json(data: Any) -> int:
    """Print *data*; the exit code for that."""
    print(json.dumps(data, ensure_ascii=False, indent=2))
    return 0


def confirm(question: str) -> bool:
    """Return whether the person at the terminal answers with yes; no input means no."""
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
