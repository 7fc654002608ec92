"""One measurement of a model: every batch size with every concurrency, written down as it goes."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from deployment_toolkit.core import DataloaderFn, PerformanceTool
from deployment_toolkit.errors import UsageError
from deployment_toolkit.progress import progress_bar
from deployment_toolkit.report import PerformanceRow, write_performance
from deployment_toolkit.triton_performance_runner.exclusive import machine_to_itself
from deployment_toolkit.triton_performance_runner.options import PerformanceOptions, Point
from deployment_toolkit.triton_performance_runner.perf_analyzer import PerfAnalyzer
from deployment_toolkit.triton_performance_runner.perf_data import InputData
from deployment_toolkit.triton_performance_runner.target import find_target

logger = logging.getLogger("performance")

TOOLS = {PerformanceTool.PERF_ANALYZER: PerfAnalyzer}


class Meter(Protocol):
    """A tool that measures one point at a time."""

    def warm_up(self) -> None: ...

    def measure(self, point: Point) -> PerformanceRow: ...


def measure(
    options: PerformanceOptions, dataloader_fn: DataloaderFn | None = None, *, env: Mapping[str, str] | None = None
) -> list[PerformanceRow]:
    """Measures every point and writes the CSV at ``result_path`` anew after each, so that what was measured outlives an
    interruption. ``dataloader_fn`` gives the rows to send; without it ``input_data`` does.

    Raises UsageError, ServerError, InputError, DataError before anything is measured; PerformanceError if a point can't
    be.
    """
    if options.performance_tool not in TOOLS:
        raise UsageError(
            f"--performance-tool {options.performance_tool} is not supported: use {', '.join(map(str, TOOLS))}"
        )
    target = find_target(options)
    data = InputData(options, target.spec, target.url.scheme, dataloader_fn)
    options.result_path.parent.mkdir(parents=True, exist_ok=True)
    with machine_to_itself(), tempfile.TemporaryDirectory(prefix="performance_") as folder:
        options.log_path.write_text("")
        meter = TOOLS[options.performance_tool](options, target, data, folder=Path(folder), env=env)
        return _measure_points(meter, options)


def _measure_points(meter: Meter, options: PerformanceOptions) -> list[PerformanceRow]:
    if options.warmup:
        meter.warm_up()
    rows: list[PerformanceRow] = []
    points = options.points
    with progress_bar(f"{options.evaluation_mode} performance", len(points), " points") as bar:
        for point in points:
            rows.append(meter.measure(point))
            write_performance(options.result_path, rows)
            bar.update()
    return rows
