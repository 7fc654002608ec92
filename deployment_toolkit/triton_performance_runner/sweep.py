"""Sweep of a model: every batch size with every concurrency, as far as the time budget goes, what people need first
before the rest; each row is written when it is measured."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deployment_toolkit.core import DataloaderFn, EvaluationMode, PerformanceTool
from deployment_toolkit.files.atomic import require_writable
from deployment_toolkit.hardware import require_gpu
from deployment_toolkit.process import environment
from deployment_toolkit.progress import status
from deployment_toolkit.results.disturbed import judged
from deployment_toolkit.results.left_out import LeftOut
from deployment_toolkit.results.performance import BATCH, CONCURRENCY, SETTLED, PerformanceRow, in_order
from deployment_toolkit.sameness.command import Origin
from deployment_toolkit.sameness.points import MeasuredPoints
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.triton_performance_runner.model_analyzer.measuring import ModelAnalyzer, find_served_model
from deployment_toolkit.triton_performance_runner.options import LoadPoint, OfflineMode, PerformanceOptions
from deployment_toolkit.triton_performance_runner.perf_analyzer import PerfAnalyzer
from deployment_toolkit.triton_performance_runner.perf_data import InputData
from deployment_toolkit.triton_performance_runner.plan.order import in_order_of_need
from deployment_toolkit.triton_performance_runner.plan.progress import SweepProgress
from deployment_toolkit.triton_performance_runner.plan.rounds import Measured
from deployment_toolkit.triton_performance_runner.plan.time_budget import TimeBudget
from deployment_toolkit.triton_performance_runner.shared_memory import machine_to_itself
from deployment_toolkit.triton_performance_runner.target import Assignment, Target, find_target

logger = logging.getLogger("performance")


class Meter(Protocol):
    """A tool that measures points within a time budget and yields each row as soon as it is measured, again if it is
    measured again. Closing it ends its processes."""

    def measure_all(
        self, points: Sequence[LoadPoint], budget: TimeBudget, progress: SweepProgress
    ) -> Generator[Measured, None, None]: ...


@dataclass(frozen=True)
class Tool:
    """A performance tool: the function that describes the model, and the class that measures it."""

    find_target: Callable[[PerformanceOptions, AccessOptions], Target]
    meter: Callable[[Assignment], Meter]


TOOLS = {
    PerformanceTool.PERF_ANALYZER: Tool(find_target, PerfAnalyzer),
    PerformanceTool.MODEL_ANALYZER: Tool(find_served_model, ModelAnalyzer),
}


def measure(
    options: PerformanceOptions,
    dataloader_fn: DataloaderFn | None = None,
    *,
    access: AccessOptions | None = None,
    env: Mapping[str, str] | None = None,
    origin: Origin | None = None,
) -> list[PerformanceRow]:
    """Measures every point that ``time_budget_s`` has time for, and rewrites the CSV at ``result_path`` after each, so
    that an interruption loses no row. What is left out is told, and written beside the CSV (``results.left_out``).
    ``dataloader_fn`` gives the rows to send; without it ``input_data`` does. ``access`` is for a server elsewhere.
    With ``origin``, what the points depend on, a later call with ``resume`` keeps them.

    Raises UsageError, ServerError, ModelError, InputError, DataError, DeviceError before anything is measured;
    PerformanceError if a point can't be measured.
    """
    if options.evaluation_mode is EvaluationMode.OFFLINE and options.offline_mode is OfflineMode.CUDA:
        require_gpu(f"--offline-mode {options.offline_mode}")
    if options.client is not None:
        options.client.require_startable()
    tool = TOOLS[options.performance_tool]
    access = access or AccessOptions()
    target = tool.find_target(options, access)
    data = InputData(options, target.spec, target.url.scheme, dataloader_fn)
    require_writable(options.result_path)
    points = MeasuredPoints(options.result_path, origin)
    kept = points.kept([(point.batch, point.concurrency) for point in options.points]) if options.resume else []
    if kept:
        logger.info("%d of %d points were measured before and are kept", len(kept), len(options.points))
    if len(kept) == len(options.points):
        points.write(kept)
        return kept
    # The tool may run as another user, who could read its environment.
    without_headers = {k: v for k, v in environment(env, prepend={}).items() if k not in access.header_env}
    with machine_to_itself(), tempfile.TemporaryDirectory(prefix="performance_") as folder:
        meter = tool.meter(Assignment(options, target, data, Path(folder), without_headers))
        if not kept:
            options.log_path.write_text("")
        return _measure_points(meter, options, points, kept)


def _measure_points(
    meter: Meter, options: PerformanceOptions, written: MeasuredPoints, kept: Sequence[PerformanceRow]
) -> list[PerformanceRow]:
    """The rows that were kept, and those of the other points, sorted."""
    wanted = in_order_of_need(options.batch_sizes, options.concurrency)
    budget = TimeBudget(options.time_budget_s)
    found = {point: Measured(point, row) for row in kept if (point := _point_of(row)) in wanted}
    points = [point for point in wanted if point not in found]
    LeftOut(len(wanted)).write(options.result_path)
    with status(f"{options.evaluation_mode} performance") as shown:
        progress = SweepProgress(shown, len(points), options.retries + 1, budget)
        with contextlib.closing(meter.measure_all(points, budget, progress)) as measured:
            for item in measured:
                found[item.point] = item
                written.write(_rows(found))
    _tell(wanted, found, options)
    return in_order(_rows(found))


def _point_of(row: PerformanceRow) -> LoadPoint:
    return LoadPoint(row[BATCH], row[CONCURRENCY])


def _rows(found: Mapping[LoadPoint, Measured]) -> list[PerformanceRow]:
    return judged([done.row for done in found.values()])


def _tell(points: Sequence[LoadPoint], found: Mapping[LoadPoint, Measured], options: PerformanceOptions) -> None:
    """Tells which points never settled and what the time budget left out."""
    for point, done in found.items():
        if not done.row[SETTLED]:
            logger.warning("%s never settled, its row is marked", point)
    missing = tuple((point.batch, point.concurrency) for point in points if point not in found)
    unsettled = tuple((point.batch, point.concurrency) for point, done in found.items() if done.repeats_left)
    left_out = LeftOut(len(points), missing, unsettled)
    left_out.write(options.result_path)
    if left_out:
        logger.warning("the time budget of %g s left out: %s", options.time_budget_s, left_out.words)
