"""``runicorn viewer``: serve a storage folder."""

from __future__ import annotations

import argparse
import os
from importlib.util import find_spec

from .. import layout
from ._common import Commands, add_command, add_no_server, add_storage, fail

DEFAULT_PORT = 23300


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "viewer",
        run,
        help="look at runs in the browser",
        description="Serve the runs of a storage folder to the browser and to API clients.",
        examples=[
            "runicorn viewer",
            "runicorn viewer --storage ~/experiments --port 8000",
        ],
    )
    add_storage(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="port to listen on (%(default)s)"
    )
    parser.add_argument("--reload", action="store_true", help="restart when the code changes")
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="listen beyond this machine although nobody is asked for a password",
    )
    parser.add_argument(
        "--remote-mode",
        action="store_true",
        help="for Runicorn 0.5, which starts a viewer on a host so: listen on 127.0.0.1 only",
    )
    parser.add_argument(
        "--log-level",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
        default="INFO",
        help="what is said in remote mode (%(default)s)",
    )
    add_no_server(parser, "it starts one; a server that runs is looked at in a browser")


def run(args: argparse.Namespace) -> int:
    if args.remote_mode:
        args.host, args.reload = "127.0.0.1", False
        os.environ["RUNICORN_LOG_LEVEL"] = args.log_level
        print(f"[Remote Mode] Listening on {args.host}:{args.port}")
        print(f"[Remote Mode] Log level: {args.log_level}")
        print(f"[Remote Mode] Storage: {layout.storage_root(args.storage)}", flush=True)
    os.environ["RUNICORN_DIR"] = str(layout.storage_root(args.storage))
    try:
        from .._django import serve

        return serve(args.host, args.port, reload=args.reload, allow_remote=args.allow_remote)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or find_spec(package):
            raise  # not a missing package: a mistake of ours
        return fail(
            f"The viewer's parts are not installed ({package} is missing): "
            "pip install 'runicorn[viewer]'"
        )
