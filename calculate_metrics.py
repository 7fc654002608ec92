"""Calculates metrics of a dump with labels: dump -> metrics.csv, one header and one row."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.files.atomic import require_writable
from deployment_toolkit.options.command_line import METRICS, read_command_line
from deployment_toolkit.options.params import option, run_entry_point
from deployment_toolkit.results.tables import write_csv
from deployment_toolkit.rows.correctness import dump_metrics, why_undefined
from deployment_toolkit.rows.dump import Dump

logger = logging.getLogger("metrics")


@dataclass(frozen=True)
class MetricsOptions:
    """Options of this script; the calculator adds others."""

    metrics: Path = option("module with MetricsCalculator")
    csv: Path = option("file to write")
    dump_dir: Path = option("folder of the dump")


def main(argv: list[str]) -> None:
    command = read_command_line(__doc__, argv, [MetricsOptions], [METRICS])
    options = command.get(MetricsOptions)
    dump = Dump(options.dump_dir)
    calculator = command.call(METRICS)
    require_writable(options.csv)
    metrics = dump_metrics(calculator, dump)
    for name, value in metrics.items():
        logger.info("%s %.6f over %d rows", name, value, dump.rows)
        if math.isnan(value):
            logger.warning("%s is not defined for this dump: %s", name, why_undefined(calculator, name))
    write_csv(options.csv, [metrics])
    logger.info("written to %s", options.csv)


if __name__ == "__main__":
    run_entry_point(main)
