"""Gate of a deployment: compares dumps with a reference dump row by row and by their metrics, writes a table, and fails
if a dump differs by more than the limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.options.command_line import METRICS, read_command_line
from deployment_toolkit.options.params import option, run_entry_point
from deployment_toolkit.rows.gate import GateLimits, check_dumps


@dataclass(frozen=True)
class GateOptions:
    """Options of this script, in addition to the limits; the calculator adds others."""

    reference_dump_dir: Path = option("dump of the reference, as a framework made it")
    metrics: Path = option("module with MetricsCalculator")
    dump_dir: list[Path] = option("dump to compare, named by its folder; repeatable", nargs=None, action="append")
    csv: Path = option("file to write, also when the gate fails", Path("correctness.csv"))
    worst_rows_csv: Path | None = option(
        "file to write with the rows of each dump that differ most, within the tolerance or not", None
    )


def main(argv: list[str]) -> None:
    command = read_command_line(__doc__, argv, [GateOptions, GateLimits], [METRICS])
    options, limits = command.get(GateOptions), command.get(GateLimits)
    check_dumps(
        options.reference_dump_dir,
        options.dump_dir,
        limits,
        lambda: command.call(METRICS),
        csv=options.csv,
        worst_rows_csv=options.worst_rows_csv,
    )


if __name__ == "__main__":
    run_entry_point(main)
