"""Measures a deployed model's throughput and latency: server -> latency.csv."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import DataloaderModule
from deployment_toolkit.errors import UsageError
from deployment_toolkit.params import (
    Plugin,
    add_dataclass,
    from_args,
    keywords_for,
    make_parser,
    option,
    parse_with_plugins,
    run_entry_point,
)
from deployment_toolkit.triton_performance_runner.options import RANDOM_DATA, PerformanceOptions

logger = logging.getLogger("performance")


@dataclass(frozen=True)
class DataOptions:
    """Option of this script beside those of the measurement and the dataloader."""

    dataloader: Path | None = option("module with get_dataloader_fn whose rows are sent instead of made-up ones", None)


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__)
    add_dataclass(parser, PerformanceOptions)
    add_dataclass(parser, DataOptions)
    args, modules = parse_with_plugins(parser, argv, [Plugin("dataloader", DataloaderModule, "get_dataloader_fn")])
    options = from_args(PerformanceOptions, args)
    dataloader_fn = None
    if "dataloader" in modules:
        if options.input_data != RANDOM_DATA:
            raise UsageError("--dataloader and --input-data both say what to send: give one of them")
        get_dataloader_fn = modules["dataloader"].get_dataloader_fn
        dataloader_fn = get_dataloader_fn(**keywords_for(get_dataloader_fn, args))
    from deployment_toolkit.report import performance_markdown
    from deployment_toolkit.triton_performance_runner.sweep import measure  # tritonclient: after the options are read

    rows = measure(options, dataloader_fn)
    print(performance_markdown(rows))
    logger.info("%d rows written to %s", len(rows), options.result_path)


if __name__ == "__main__":
    run_entry_point(main)
