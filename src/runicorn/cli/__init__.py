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
from . import (
    artifacts,
    completion,
    config,
    export,
    export_data,
    generate_manifest,
    import_,
    manage,
    rate_limit,
    viewer,
)
from ._common import fail

COMMANDS = (
    viewer,
    config,
    export,
    import_,
    export_data,
    manage,
    artifacts,
    rate_limit,
    generate_manifest,
    completion,
)
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
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        return fail("--server needs httpx: pip install 'runicorn[client]'")
    except BrokenPipeError:  # ``| head`` has seen enough; nothing is left to be flushed to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        api = sys.modules.get("runicorn.api")  # loaded where it was used
        if api is None or not isinstance(error, api.RunicornAPIError):
            raise
        said = error.detail if isinstance(error, api.NotFoundError | api.BadRequestError) else None
        is_sentence = isinstance(said, str) and said.isprintable()
        return fail(f"Error: {said if said and is_sentence else error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="runicorn",
        description="Track machine learning experiments.",
        epilog=f"'runicorn COMMAND --help' shows each command with examples.\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"runicorn {__version__}")
    parser.set_defaults(parser=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser
