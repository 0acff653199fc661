"""``runicorn config``: the user's own configuration."""

from __future__ import annotations

import argparse

from ._common import Commands, add_command, add_json, add_server, fail, paint, print_json


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "config",
        run,
        help="see or set the storage folder",
        description="See where runs are stored, or say where they shall be.",
        examples=[
            "runicorn config --set-user-root ~/experiments",
            "runicorn config --show",
            "runicorn config --show --server http://127.0.0.1:23300",
        ],
    )
    parser.add_argument("--show", action="store_true", help="show the configuration (the default)")
    parser.add_argument(
        "--set-user-root", metavar="PATH", help="store runs here, unless RUNICORN_DIR says else"
    )
    add_json(parser)
    add_server(parser)


def run(args: argparse.Namespace) -> int:
    return _on_server(args) if args.server else _here(args)


def _here(args: argparse.Namespace) -> int:
    from pathlib import Path

    from .. import config

    if args.set_user_root is not None:
        try:
            root = config.set_user_root_dir(Path(args.set_user_root).expanduser().absolute())
        except (config.ConfigError, OSError) as error:
            return fail(f"Cannot set user_root_dir: {error}")
        if not args.json:
            print(f"Set user_root_dir to: {root}")
            if not args.show:
                return 0
    _show(args, str(config.config_file()), config.user_root_dir())
    return 0


def _on_server(args: argparse.Namespace) -> int:
    from ._common import client

    with client(args) as server:
        if args.set_user_root is not None:
            changed = server.update_config({"user_root": args.set_user_root})
            if not args.json:
                print(f"Set user_root_dir to: {changed['user_root_dir']}")
                if not args.show:
                    return 0
        config = server.get_config()
        _show(args, str(config.get("config_file", "")), config["user_root"])
    return 0


def _show(args: argparse.Namespace, file: str, root: str) -> None:
    if args.json:
        print_json({"config_file": file, "user_root_dir": root})
        return
    print("Runicorn user config:")
    print(f"  File          : {file}")
    print(f"  user_root_dir : {root or '(not set)'}")
    if not root:
        print()
        print(paint("Tip: runicorn config --set-user-root PATH", "dim"))
