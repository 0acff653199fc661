"""Runicorn: log a training run in four lines.

>>> import runicorn as rn
>>> rn.init(project="vision", name="resnet")
>>> rn.log(loss=0.25, accuracy=0.91)
>>> rn.finish()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__
from .sdk import (
    Run,
    finish,
    get_active_run,
    init,
    log,
    log_image,
    log_text,
    set_primary_metric,
    summary,
)

if TYPE_CHECKING:
    from .artifacts import Artifact, ArtifactType
    from .environment import EnvironmentCapture, EnvironmentInfo

__all__ = [
    "Artifact",
    "ArtifactType",
    "EnvironmentCapture",
    "EnvironmentInfo",
    "Run",
    "__version__",
    "finish",
    "get_active_run",
    "init",
    "log",
    "log_image",
    "log_text",
    "set_primary_metric",
    "summary",
]


def __getattr__(name: str) -> Any:
    """Load what a training script rarely needs only when it is asked for."""
    if name in ("Artifact", "ArtifactType"):
        from . import artifacts

        return getattr(artifacts, name)
    if name in ("EnvironmentCapture", "EnvironmentInfo"):
        from . import environment

        return getattr(environment, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
