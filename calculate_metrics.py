"""Calculates metrics of a dump that holds labels: dumps -> metrics.csv, one header and one row."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import MetricsModule
from deployment_toolkit.correctness import dump_metrics
from deployment_toolkit.dump import Dump
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
from deployment_toolkit.table import write_csv

logger = logging.getLogger("metrics")


@dataclass(frozen=True)
class MetricsOptions:
    """Options of this script beside those of the calculator."""

    metrics: Path = option("module with MetricsCalculator")
    csv: Path = option("file to write")
    dump_dir: Path = option("folder of the dump")


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__)
    add_dataclass(parser, MetricsOptions)
    args, modules = parse_with_plugins(parser, argv, [Plugin("metrics", MetricsModule, "MetricsCalculator")])
    options = from_args(MetricsOptions, args)
    calculator_class = modules["metrics"].MetricsCalculator
    calculator = calculator_class(**keywords_for(calculator_class, args))
    dump = Dump(options.dump_dir)
    metrics = dump_metrics(calculator, dump)
    for name, value in metrics.items():
        logger.info("%s %.6f over %d rows", name, value, dump.rows)
        if math.isnan(value):
            logger.warning("%s is not defined for this dump: are there clicks, and no NaN among the outputs?", name)
    write_csv(options.csv, [metrics])
    logger.info("written to %s", options.csv)


if __name__ == "__main__":
    run_entry_point(main)
