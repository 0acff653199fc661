"""Rules that say when a metric looks wrong, and what to do then."""

from __future__ import annotations

import logging
import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger("runicorn")

_TOLERANCE = 1e-9
_MEAN_CHANGE = 0.5
_VARIANCE_RATIO = 3.0


def _is_close(value: float, threshold: float) -> bool:
    return abs(value - threshold) < _TOLERANCE


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "gt": lambda value, threshold: value > threshold,
    "lt": lambda value, threshold: value < threshold,
    "eq": _is_close,
    "ne": lambda value, threshold: not _is_close(value, threshold),
}
_CHECKS: dict[str, Callable[[float], bool]] = {"nan": math.isnan, "inf": math.isinf}


@dataclass
class AlertRule:
    """When to raise an alert: *condition* held *consecutive_count* times in a row.

    *condition*: ``gt lt eq ne`` (against *threshold*; the last two within 1e-9), ``nan``, ``inf``.
    *callback*: called with (message, value). Raises ValueError for another condition, or for one
    that lacks its threshold.
    """

    metric_name: str
    condition: str
    threshold: float | None = None
    consecutive_count: int = 1
    callback: Callable[[str, float], Any] | None = None

    def __post_init__(self) -> None:
        if self.condition not in (*_COMPARISONS, *_CHECKS):
            known = ", ".join([*_COMPARISONS, *_CHECKS])
            raise ValueError(f"Condition must be one of {known}, got {self.condition!r}")
        if self.condition in _COMPARISONS and self.threshold is None:
            raise ValueError(f"Condition {self.condition!r} needs a threshold")

    def matches(self, value: float) -> bool:
        if self.threshold is not None and self.condition in _COMPARISONS:
            return _COMPARISONS[self.condition](value, self.threshold)
        return _CHECKS[self.condition](value)

    def message(self, value: float) -> str:
        if self.condition in _CHECKS:
            return f"⚠️ Alert: {self.metric_name} is {self.condition.upper()}"
        return f"⚠️ Alert: {self.metric_name}={value} {self.condition} {self.threshold}"


def default_rules() -> list[AlertRule]:
    """A loss that is no number."""
    names = ("loss", "train_loss", "val_loss", "test_loss")
    return [AlertRule("loss", "inf"), *(AlertRule(name, "nan") for name in names)]


class MetricMonitor:
    """Checks metrics against rules and remembers the last *window_size* values of each."""

    def __init__(self, window_size: int = 100) -> None:
        self.window_size = window_size
        self.metrics_history: dict[str, deque[float]] = {}
        self.alert_rules = default_rules()
        self._matched: dict[int, int] = {}
        """Per rule, how often in a row it has matched."""

    def add_rule(self, rule: AlertRule) -> None:
        self.alert_rules.append(rule)

    def check_metrics(self, metrics: Mapping[str, Any]) -> list[str]:
        """Take in one step's *metrics*; the alerts that they raise.

        Values that are no numbers are passed over. After an alert its rule counts anew. A callback
        that fails is logged: it never ends a training.
        """
        numbers = {
            name: number for name, v in metrics.items() if (number := _number(v)) is not None
        }
        for name, value in numbers.items():
            if name not in self.metrics_history:
                self.metrics_history[name] = deque(maxlen=self.window_size)
            self.metrics_history[name].append(value)
        return [
            message
            for rule in self.alert_rules
            if rule.metric_name in numbers
            and (message := self._check(rule, numbers[rule.metric_name])) is not None
        ]

    def _check(self, rule: AlertRule, value: float) -> str | None:
        matched = self._matched.get(id(rule), 0) + 1 if rule.matches(value) else 0
        is_alert = matched >= max(1, rule.consecutive_count)
        self._matched[id(rule)] = 0 if is_alert else matched
        if not is_alert:
            return None
        message = rule.message(value)
        if rule.callback is not None:
            try:
                rule.callback(message, value)
            except Exception:
                logger.exception("The callback of an alert failed: %s", message)
        return message

    def get_statistics(self, metric_name: str) -> dict[str, Any]:
        """``{mean, min, max, last, count, valid_count}`` of the values remembered.

        ``{has_nan, has_inf}`` if none of them is finite; ``{}`` for an unknown metric.
        """
        history = self.metrics_history.get(metric_name)
        if not history:
            return {}
        finite = [value for value in history if math.isfinite(value)]
        if not finite:
            return {
                "has_nan": any(map(math.isnan, history)),
                "has_inf": any(map(math.isinf, history)),
            }
        return {
            "mean": statistics.fmean(finite),
            "min": min(finite),
            "max": max(finite),
            "last": history[-1],
            "count": len(history),
            "valid_count": len(finite),
        }


class AnomalyDetector:
    """Values further than *sensitivity* standard deviations from what was seen before."""

    def __init__(self, sensitivity: float = 2.0) -> None:
        self.sensitivity = sensitivity
        self.baselines: dict[str, dict[str, float]] = {}

    def update_baseline(self, metric_name: str, values: Iterable[float]) -> None:
        """Learn what is normal from *values*; nothing with fewer than two finite ones."""
        finite = [value for value in values if math.isfinite(value)]
        if len(finite) < 2:
            return
        mean, std = statistics.fmean(finite), statistics.pstdev(finite)
        margin = self.sensitivity * std
        self.baselines[metric_name] = {
            "mean": mean,
            "std": std,
            "lower_bound": mean - margin,
            "upper_bound": mean + margin,
        }

    def is_anomaly(self, metric_name: str, value: float) -> bool:
        """NaN and the infinities always are; nothing else without a baseline."""
        if not math.isfinite(value):
            return True
        baseline = self.baselines.get(metric_name)
        return baseline is not None and not (
            baseline["lower_bound"] <= value <= baseline["upper_bound"]
        )

    def detect_trend_anomaly(self, values: Sequence[float], window: int = 5) -> bool:
        """Whether the last *window* values differ from those before: their mean by more than half,
        or their variance by a factor of more than 3. False with fewer than two windows."""
        if window < 1 or len(values) < 2 * window:
            return False
        before, recent = values[-2 * window : -window], values[-window:]
        if not all(map(math.isfinite, (*before, *recent))):
            return True
        old, new = statistics.fmean(before), statistics.fmean(recent)
        if old != 0 and abs(new - old) / abs(old) > _MEAN_CHANGE:
            return True
        old_variance = statistics.pvariance(before)
        return old_variance > 0 and statistics.pvariance(recent) / old_variance > _VARIANCE_RATIO


def create_monitor_callback(monitor: MetricMonitor) -> Callable[[Mapping[str, Any]], list[str]]:
    """A function for a training framework's hook: it checks the metrics given to it, logs the
    alerts as warnings, and returns them."""

    def check(metrics: Mapping[str, Any]) -> list[str]:
        alerts = monitor.check_metrics(metrics)
        for alert in alerts:
            logger.warning("%s", alert)
        return alerts

    return check


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if not isinstance(value, int | float):
        try:
            value = value.item()  # a NumPy or torch scalar
        except (AttributeError, ValueError, RuntimeError, TypeError):
            return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
