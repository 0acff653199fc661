"""The one place where the light package starts the Django project.

The project is a folder that runs with itself first on ``sys.path``: inside the installed package,
or the root of a checkout. Nothing of it is importable otherwise, so a training script's own
``metrics.py`` or ``runs/`` never meets it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def _project() -> Path:
    package = Path(__file__).resolve().parent
    installed = package / "_server"
    return installed if installed.is_dir() else package.parent.parent


sys.path.insert(0, str(_project()))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.local")

import daphne  # noqa: E402, F401  (fails here, with its name, where the viewer is not installed)
import django  # noqa: E402


def reindex() -> None:
    """Empty the server's index of runs and artifacts; it is made again from the files."""
    django.setup()
    from django.core.management import call_command

    call_command("reindex")


def serve(host: str, port: int, *, reload: bool = False, allow_remote: bool = False) -> int:
    """Serve until interrupted; return the exit code."""
    from runicorn_site import viewer

    return viewer.serve(host, port, reload=reload, allow_remote=allow_remote)
