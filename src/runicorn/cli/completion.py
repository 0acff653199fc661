"""``runicorn completion``: what a shell needs to complete our commands and flags."""

from __future__ import annotations

import argparse

from ._common import Commands, add_command, fail


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "completion",
        run,
        help="complete commands in your shell",
        description="Print a script that completes commands and flags. It is complete in itself: "
        "pressing Tab starts no Python.",
        examples=[
            "runicorn completion bash > ~/.local/share/bash-completion/completions/runicorn",
            "runicorn completion zsh > ~/.zfunc/_runicorn",
        ],
    )
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])


def run(args: argparse.Namespace) -> int:
    try:
        import shtab
    except ModuleNotFoundError:
        return fail("Completion needs shtab: pip install 'runicorn[completion]'")
    print(shtab.complete(args.parser, args.shell))
    return 0
