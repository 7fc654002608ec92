"""Axis of rows: work that reads or writes data, each kind in a separate process."""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.growth.point import Axis, GrowthJob, GrowthMeasurement
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.process import environment, run

WORKS = ("preprocessing", "loader", "dumps", "metrics")
_PREPARED = ("preprocessing", "loader", "metrics")
_ONCE = ("preprocessing",)  # long enough to be measured once


def rows_jobs(sizes: Sequence[int], works: Sequence[str], batch_size: int, repeats: int) -> list[GrowthJob]:
    """Jobs for each size and each of ``works``, the small sizes first."""
    jobs = []
    for size in sorted(sizes):
        for name in works:
            times = 1 if name in _ONCE else repeats
            settings = f"batch {batch_size}, median of {times}" if name != "preprocessing" else "once"
            measure = functools.partial(_measure, name, size, batch_size, times)
            jobs.append(GrowthJob(Axis.ROWS, name, size, settings, measure))
    return jobs


def do_work(name: str, folder: Path, **values: int) -> dict[str, Any]:
    """Runs ``benchmarks.growth.work`` and returns its output. Raises ProcessError."""
    argv: list[str | Path] = [sys.executable, "-m", "benchmarks.growth.work", "--name", name, "--folder", folder]
    for option, value in values.items():
        argv += [f"--{option.replace('_', '-')}", str(value)]
    env = environment(prepend={"PYTHONPATH": [ROOT]})
    printed = run(argv, env=env, log_path=folder / f"{name}.log", poll_s=0.02).stdout
    result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return result


def _measure(name: str, rows: int, batch_size: int, repeats: int) -> GrowthMeasurement:
    with tempfile.TemporaryDirectory(prefix="growth_") as folder:
        if name in _PREPARED:
            do_work(f"prepare-{name}", Path(folder), rows=rows, batch_size=batch_size)
        done = do_work(name, Path(folder), rows=rows, batch_size=batch_size, repeats=repeats)
    return GrowthMeasurement(done["seconds"], done["peak_mib"], done["rows"] / done["seconds"])
