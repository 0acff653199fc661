"""The command line ``runicorn``: one module per command, each with ``add`` and ``run``.

These modules are loaded at every start. What a command needs beyond parsing its arguments, it
imports when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .. import __version__
from . import generate_manifest, viewer

COMMANDS = (viewer, generate_manifest)
"""In the order of ``--help``."""

EXIT_CODES = "exit codes: 0 done, 1 an error that is explained, 2 wrong arguments, 130 interrupted"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that has no check mark
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # ``| head`` has seen enough; nothing is left to be flushed to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="runicorn",
        description="Track machine learning experiments.",
        epilog=f"'runicorn COMMAND --help' shows each command with examples.\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"runicorn {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser
