"""Measures variants of a deployed model with Model Analyzer: every combination of instances, threads, preferred batch
sizes and queue delays, on a server that it starts over the model repository; the model there is not changed."""

from __future__ import annotations

import contextlib
import itertools
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.core import DataloaderFn
from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.command_line import DATALOADER, read_command_line
from deployment_toolkit.options.params import option, run_entry_point
from deployment_toolkit.progress import progress_bar
from deployment_toolkit.results.performance import PERFORMANCE_COLUMNS
from deployment_toolkit.results.tables import write_csv
from deployment_toolkit.triton_performance_runner.model_analyzer.measuring import ModelAnalyzer, find_served_model
from deployment_toolkit.triton_performance_runner.options import PerformanceOptions
from deployment_toolkit.triton_performance_runner.perf_data import InputData
from deployment_toolkit.triton_performance_runner.shared_memory import machine_to_itself
from deployment_toolkit.triton_performance_runner.target import Assignment
from deployment_toolkit.triton_performance_runner.variant import Variant, VariantPoint

logger = logging.getLogger("performance")


@dataclass(frozen=True)
class VariantOptions:
    """What is varied."""

    instances: list[int] = option("counts of instances to try")
    preferred_batch_sizes: list[int] = option("preferred batch sizes to try, one at a time")
    threads: list[int] = option("threads to try; without any the model has no such parameter", [])
    max_queue_delays_us: list[int] = option("queue delays to try, in microseconds", [0])
    dataloader: Path | None = option("module with get_dataloader_fn whose rows are sent instead of made-up ones", None)

    @property
    def variants(self) -> list[Variant]:
        """Every combination."""
        sizes = [(size,) for size in self.preferred_batch_sizes]
        threads: list[int | None] = [*self.threads] or [None]
        grid = itertools.product(self.instances, threads, sizes, self.max_queue_delays_us)
        return [Variant(*values) for values in grid]


def measure_variants(
    options: PerformanceOptions, variants: Sequence[Variant], dataloader_fn: DataloaderFn | None = None
) -> None:
    """Measures every point of every variant and writes the CSV at ``result_path`` anew after each: the settings of the
    variant, then the performance columns. Raises what ``sweep.measure`` raises."""
    target = find_served_model(options)
    data = InputData(options, target.spec, target.url.scheme, dataloader_fn)
    options.result_path.parent.mkdir(parents=True, exist_ok=True)
    points = [VariantPoint(point.batch, point.concurrency, variant) for variant in variants for point in options.points]
    rows: list[dict[str, Any]] = []
    with machine_to_itself(), tempfile.TemporaryDirectory(prefix="performance_") as folder:
        meter = ModelAnalyzer(Assignment(options, target, data, Path(folder)), variants)
        options.log_path.write_text("")
        with (
            progress_bar("variants", len(points), " points") as bar,
            contextlib.closing(meter.measure_all(points)) as measured,
        ):
            for point, row in zip(points, measured, strict=True):
                cells = {column.name: column.cell(row[column.name]) for column in PERFORMANCE_COLUMNS}
                rows.append({**point.variant.cells, **cells})
                write_csv(options.result_path, rows)
                bar.update()


def main(argv: list[str]) -> None:
    command = read_command_line(__doc__, argv, [PerformanceOptions, VariantOptions], [DATALOADER])
    options, varied = command.get(PerformanceOptions), command.get(VariantOptions)
    if options.model_repository is None:
        raise UsageError("give --model-repository: Model Analyzer starts a server of its own over it")
    measure_variants(options, varied.variants, command.call(DATALOADER) if command.names(DATALOADER) else None)
    logger.info("variants written to %s", options.result_path)


if __name__ == "__main__":
    run_entry_point(main)
