"""The command line ``runicorn``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import __version__, layout

DEFAULT_PORT = 23300


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 done, 1 a handled error, 2 wrong arguments."""
    args = _parser().parse_args(argv)
    return int(args.run(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="runicorn", description="Track machine learning experiments."
    )
    parser.add_argument("--version", action="version", version=f"runicorn {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    viewer = commands.add_parser(
        "viewer",
        help="look at runs in the browser",
        description="Serve the runs of a storage folder to the browser and to API clients.",
        epilog="Example: runicorn viewer --storage ~/experiments",
    )
    viewer.add_argument(
        "--storage",
        metavar="PATH",
        help="storage folder (default: RUNICORN_DIR, then the configured one, then ./.runicorn)",
    )
    viewer.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    viewer.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="port to listen on (%(default)s)"
    )
    viewer.add_argument("--reload", action="store_true", help="restart when the code changes")
    viewer.add_argument(
        "--allow-remote",
        action="store_true",
        help="listen beyond this machine although nobody is asked for a password",
    )
    viewer.set_defaults(run=_viewer)
    return parser


def _viewer(args: argparse.Namespace) -> int:
    os.environ["RUNICORN_DIR"] = str(layout.storage_root(args.storage))
    try:
        from ._django import serve
    except ModuleNotFoundError as error:
        print(
            f"The viewer's parts are not installed ({error.name} is missing): "
            "pip install 'runicorn[viewer]'"
        )
        return 1
    return serve(args.host, args.port, reload=args.reload, allow_remote=args.allow_remote)


if __name__ == "__main__":
    sys.exit(main())
