"""Answers of the client as pandas DataFrames. pandas is loaded by the first call."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from ._frames import load_pandas


class Client(Protocol):
    """A blocking client, such as :class:`RunicornClient`."""

    def get_metrics(self, run_id: str, metric_names: Iterable[str] | None = None) -> Any: ...


def metrics_to_dataframe(metrics_data: dict[str, Any]) -> Any:
    """Return the answer of ``get_metrics`` with the columns ``step`` and the metrics.

    There is one row a step, ascending.
    """
    return _joined(
        {
            name: [(point["step"], point["value"]) for point in points]
            for name, points in metrics_data.get("metrics", {}).items()
        }
    )


def experiments_to_dataframe(experiments: Sequence[dict[str, Any]]) -> Any:
    """Return the answer of ``list_experiments``, its times as UTC datetimes without a zone."""
    pd = load_pandas()
    frame = pd.DataFrame(list(experiments))
    for column in {"created_at", "updated_at"} & set(frame.columns):
        frame[column] = pd.to_datetime(frame[column], unit="s")
    return frame


def export_metrics_to_csv(
    client: Client,
    run_id: str,
    output_path: str | os.PathLike[str],
    metric_names: Iterable[str] | None = None,
) -> str:
    """Write a run's metrics to a CSV file, one row a step; return its path."""
    frame = metrics_to_dataframe(client.get_metrics(run_id, metric_names))
    frame.to_csv(output_path, index=False)
    return str(output_path)


def compare_runs(client: Client, run_ids: Iterable[str], metric_name: str) -> Any:
    """Return the columns ``step`` and one of *metric_name* per run that has it; one row a step."""
    series = {}
    for run_id in run_ids:
        metrics = client.get_metrics(run_id, [metric_name])["metrics"]
        if metric_name in metrics:
            series[run_id] = [(p["step"], p["value"]) for p in metrics[metric_name]]
    return _joined(series)


def _joined(series: dict[str, list[tuple[int, float]]]) -> Any:
    """Join the series on the step, a column each; of repeated steps the last value counts."""
    pd = load_pandas()
    columns = {name: dict(points) for name, points in series.items()}
    steps = sorted(set().union(*columns.values()))
    data = {name: [at.get(step) for step in steps] for name, at in columns.items()}
    return pd.DataFrame({"step": pd.Series(steps, dtype="int64"), **data})
