"""Comparison of a run with its baseline, at the run's end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import UsageError
from deployment_toolkit.results.performance import WINDOW_RATES
from runner.compare.comparison import TEXT, Comparison
from runner.config.baseline import Baseline
from runner.kept_run import KeptRun, find_run, read_kept_run

FOLDER = "comparison"  # in the folder of the run


def read_baseline(baseline: Baseline, workspace: Path) -> KeptRun:
    """Reads the baseline before the run begins, so that ``latest`` is the run before it. Raises UsageError if there is
    no such run or nothing could be told from noise with it, DataError if it can't be read."""
    run = find_run(baseline.run, workspace, ROOT / "reports")
    rows = [row for experiment in run.experiments for row in (*experiment.offline, *experiment.online)]
    if not any(row[WINDOW_RATES] for row in rows) and not any(experiment.capacity for experiment in run.experiments):
        raise UsageError(
            f"baseline: run {baseline.run}: its files hold no windows of its measurements, so nothing can be told from "
            "noise: choose a run of this version"
        )
    return run


def compare_with_baseline(run: Path, base: KeptRun, limit: float, show: Callable[[str], None]) -> int:
    """Compares a finished run with its baseline and writes ``comparison/`` into the run's folder; returns 3 if a figure
    got worse by more than ``limit``, a share, else 0. Raises DataError if nothing could be judged or written."""
    comparison = Comparison.of([base, read_kept_run(run)])
    judgement = comparison.judge(limit)
    comparison.write(run / FOLDER, judgement)
    show(f"\nagainst {base.name}: {judgement.sentence}")
    for line in judgement.told:
        show(f"- {line}")
    show(f"comparison: {run / FOLDER / TEXT}")
    return judgement.exit_code
