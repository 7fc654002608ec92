"""Measures throughput and latency of a deployed model: server -> latency.csv."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.capacity.options import CapacityOptions, require_fitting
from deployment_toolkit.core import DataloaderFn, EvaluationMode
from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.command_line import DATALOADER, read_command_line
from deployment_toolkit.options.params import option, run_entry_point
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.triton_performance_runner.options import RANDOM_DATA, PerformanceOptions

logger = logging.getLogger("performance")


@dataclass(frozen=True)
class DataOptions:
    """Option of this script, in addition to those of the measurement and the dataloader."""

    dataloader: Path | None = option("module with get_dataloader_fn whose rows are sent instead of made-up ones", None)


def main(argv: list[str]) -> None:
    groups = [PerformanceOptions, CapacityOptions, AccessOptions, DataOptions]
    command = read_command_line(__doc__, argv, groups, [DATALOADER])
    options, capacity = command.get(PerformanceOptions), command.get(CapacityOptions)
    require_fitting(options, capacity)
    if command.names(DATALOADER) and options.input_data != RANDOM_DATA:
        raise UsageError("--dataloader and --input-data both say what to send: give one of them")
    dataloader_fn = command.call(DATALOADER) if command.names(DATALOADER) else None
    access = command.get(AccessOptions)
    if options.evaluation_mode is EvaluationMode.CAPACITY:
        rows = _measure_capacity(options, capacity, dataloader_fn, access)
    else:
        rows = _measure_sweep(options, dataloader_fn, access, argv)
    logger.info("%d rows written to %s", rows, options.result_path)


# The imports below bring tritonclient: after the options are read.


def _measure_sweep(
    options: PerformanceOptions, dataloader_fn: DataloaderFn | None, access: AccessOptions, argv: list[str]
) -> int:
    from deployment_toolkit.results.disturbed import disturbance_sentence
    from deployment_toolkit.results.performance import performance_markdown
    from deployment_toolkit.sameness.points import has_model, point_origin
    from deployment_toolkit.server_access.url import ServerUrl
    from deployment_toolkit.triton_performance_runner.sweep import measure

    origin, repository = None, options.model_repository
    if repository is not None and (options.resume or has_model(repository, options.model_name)):
        url = ServerUrl.parse(options.server_url)
        origin = point_origin([__file__, *argv], repository, options.model_name, url)
    rows = measure(options, dataloader_fn, access=access, origin=origin)
    print(performance_markdown(rows))
    print(disturbance_sentence(rows))
    return len(rows)


def _measure_capacity(
    options: PerformanceOptions, capacity: CapacityOptions, dataloader_fn: DataloaderFn | None, access: AccessOptions
) -> int:
    from deployment_toolkit.capacity.measuring import measure_capacity
    from deployment_toolkit.results.capacity import capacity_markdown
    from deployment_toolkit.results.disturbed import disturbance_sentence

    rows = measure_capacity(options, capacity, dataloader_fn, access=access)
    print(capacity_markdown(rows))
    print(disturbance_sentence(rows))
    return len(rows)


if __name__ == "__main__":
    run_entry_point(main)
