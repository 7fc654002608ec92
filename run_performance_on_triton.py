"""Measures throughput and latency of a deployed model: server -> latency.csv."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

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
    command = read_command_line(__doc__, argv, [PerformanceOptions, AccessOptions, DataOptions], [DATALOADER])
    options = command.get(PerformanceOptions)
    if command.names(DATALOADER) and options.input_data != RANDOM_DATA:
        raise UsageError("--dataloader and --input-data both say what to send: give one of them")
    dataloader_fn = command.call(DATALOADER) if command.names(DATALOADER) else None
    from deployment_toolkit.results.performance import performance_markdown
    from deployment_toolkit.sameness.points import has_model, point_origin
    from deployment_toolkit.server_access.url import ServerUrl
    from deployment_toolkit.triton_performance_runner.sweep import measure  # tritonclient: after the options are read

    origin, repository = None, options.model_repository
    if repository is not None and (options.resume or has_model(repository, options.model_name)):
        url = ServerUrl.parse(options.server_url)
        origin = point_origin([__file__, *argv], repository, options.model_name, url)
    rows = measure(options, dataloader_fn, access=command.get(AccessOptions), origin=origin)
    print(performance_markdown(rows))
    logger.info("%d rows written to %s", len(rows), options.result_path)


if __name__ == "__main__":
    run_entry_point(main)
