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
    from .experiments import ExperimentManager, ExperimentMetadata
    from .export import MetricsExporter
    from .monitoring import AlertRule, AnomalyDetector, MetricMonitor, create_monitor_callback

__all__ = [
    "AlertRule",
    "AnomalyDetector",
    "Artifact",
    "ArtifactType",
    "EnvironmentCapture",
    "EnvironmentInfo",
    "ExperimentManager",
    "ExperimentMetadata",
    "MetricMonitor",
    "MetricsExporter",
    "Run",
    "__version__",
    "create_monitor_callback",
    "finish",
    "get_active_run",
    "init",
    "log",
    "log_image",
    "log_text",
    "set_primary_metric",
    "summary",
]

_LATER = {
    "artifacts": ("Artifact", "ArtifactType"),
    "environment": ("EnvironmentCapture", "EnvironmentInfo"),
    "experiments": ("ExperimentManager", "ExperimentMetadata"),
    "export": ("MetricsExporter",),
    "monitoring": ("AlertRule", "AnomalyDetector", "MetricMonitor", "create_monitor_callback"),
}
"""Modules to the names that are loaded from them when they are asked for."""


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
