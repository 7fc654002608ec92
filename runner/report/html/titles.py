"""Names of a run's metrics for people."""

from __future__ import annotations

from runner.config.parts import Correctness
from runner.kept_run import KeptRun


def metric_title(run: KeptRun, metric: str) -> str:
    """Name of a metric in reports: the configuration's, else Wide & Deep's, else its name in the tables."""
    limits = (run.config.get("correctness") or {}).get("metrics")
    if limits is None:
        return Correctness().title(metric)
    return str((limits.get(metric) or {}).get("title") or metric.replace("_", " "))
