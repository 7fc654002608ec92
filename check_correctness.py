"""Gate of a deployment: compares dumps with a reference dump row by row and by their metrics, writes a table, and fails
if a dump differs by more than the limits."""

from __future__ import annotations

import logging
import math
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.errors import DataError, ToleranceError, UsageError
from deployment_toolkit.files.atomic import require_writable, write_text
from deployment_toolkit.options.command_line import METRICS, read_command_line
from deployment_toolkit.options.params import option, run_entry_point
from deployment_toolkit.results.tables import write_csv
from deployment_toolkit.rows.correctness import (
    DumpComparison,
    compare_dumps,
    dump_metrics,
    metric_loss,
    why_undefined,
)
from deployment_toolkit.rows.dump import Dump
from deployment_toolkit.rows.farthest import FarRow
from deployment_toolkit.rows.tolerance import Tolerance

_WORST_ROWS = ("name", "row", "id", "output", "reference", "answer", "difference", "rows_of_its_request")
logger = logging.getLogger("correctness")


def _limit(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if math.isnan(limit):
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE, as in map12=1e-4")
    return name, limit


@dataclass(frozen=True)
class GateOptions:
    """Options of this script; the calculator adds others.

    The default tolerances are for fp32. Runtimes differ in the order of their sums. This changes a logit by about 1e-6
    and a probability by at most a quarter of that. So 1e-5 leaves a margin of ten, and is a tenth of the difference
    that could matter to MAP@12 at 1e-4. The relative part lets a small probability p change by p times the change of
    its logit, up to 1e-4.
    """

    reference_dump_dir: Path = option("dump of the reference, as a framework made it")
    metrics: Path = option("module with MetricsCalculator")
    dump_dir: list[Path] = option("dump to compare, named by its folder; repeatable", nargs=None, action="append")
    csv: Path = option("file to write, also when the gate fails", Path("correctness.csv"))
    worst_rows_csv: Path | None = option(
        "file to write with the rows of each dump that differ most, within the tolerance or not", None
    )
    atol: float = option("largest absolute difference from the reference in any row", 1e-5)
    rtol: float = option("relative tolerance, added to it: this times the reference", 1e-4)
    max_metric_loss: list[tuple[str, float]] = option(
        "largest loss of a metric against the reference's; repeatable",
        [],
        type=_limit,
        nargs=None,
        action="append",
        metavar="NAME=VALUE",
    )
    if_defined: list[str] = option(
        "metrics whose limit counts only where the reference defines them; the limit of any other must be checked",
        [],
        metavar="NAME",
        unique=True,
    )

    def __post_init__(self) -> None:
        for name in ("atol", "rtol"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"--{name} must be a number of at least 0, not {getattr(self, name)}")
        names = [name for name, _ in self.max_metric_loss]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"--max-metric-loss {twice}: it has {names.count(twice)} limits, give one")


def main(argv: list[str]) -> None:
    command = read_command_line(__doc__, argv, [GateOptions], [METRICS])
    check(command.get(GateOptions), lambda: command.call(METRICS))


def check(options: GateOptions, make_calculator: Callable[[], Any]) -> None:
    """Compares, writes the table, and raises ToleranceError, which names every failed dump and its worst rows. Raises
    DataError if a limit is asked for on a metric that the reference does not define."""
    require_writable(options.csv)
    if options.worst_rows_csv is not None:
        require_writable(options.worst_rows_csv)
    tolerance = Tolerance(options.atol, options.rtol)
    reference = Dump(options.reference_dump_dir)
    dumps = [Dump(path) for path in options.dump_dir]
    names = _distinct_names([reference, *dumps])
    calculator = make_calculator()
    expected = dump_metrics(calculator, reference)
    limits = _checkable(options, calculator, expected, names[0])
    lower_is_better = set(getattr(calculator, "lower_is_better", ()))
    same = DumpComparison(max_abs_diff=0.0, p99_abs_diff=0.0, rows_out_of_tolerance=0)
    table = [_row(names[0], reference, expected, expected, same, tolerance, passed=True)]
    failures: list[str] = []
    farthest: list[dict[str, object]] = []
    for name, dump in zip(names[1:], dumps, strict=True):
        calculator = make_calculator()
        metrics = dump_metrics(calculator, dump)
        comparison = compare_dumps(dump, reference, tolerance)
        problems = [comparison.problem] if comparison.problem else []
        for metric, limit in limits.items():
            loss = metric_loss(metrics[metric], expected[metric], lower_is_better=metric in lower_is_better)
            if math.isnan(loss):
                problems.append(f"{metric} is not defined: {why_undefined(calculator, metric)}")
            elif loss > limit:
                problems.append(
                    f"{metric} is {metrics[metric]:.6f}, more than {limit:g} worse than {expected[metric]:.6f}"
                )
        table.append(_row(name, dump, metrics, expected, comparison, tolerance, passed=not problems))
        farthest += [_far_row(name, row) for row in comparison.farthest]
        logger.info("%s, %d rows: %s", name, dump.rows, "; ".join(problems) or "agrees with the reference")
        failures += [f"{name}: {problem}" for problem in problems]
    write_csv(options.csv, table)
    if options.worst_rows_csv is not None:
        _write_worst_rows(options.worst_rows_csv, farthest)
    if failures:
        raise ToleranceError(f"{'; '.join(failures)} (compared with {names[0]}; table in {options.csv})")


def _checkable(options: GateOptions, calculator: Any, expected: Mapping[str, float], name: str) -> dict[str, float]:
    """Limits of the metrics that the reference ``name`` defines. Raises UsageError for a metric that the calculator
    doesn't have, DataError for one that is not defined, unless ``--if-defined`` names it."""
    limits = dict(options.max_metric_loss)
    for flag, metrics in (("--max-metric-loss", limits), ("--if-defined", options.if_defined)):
        unknown = sorted(set(metrics) - expected.keys())
        if unknown:
            raise UsageError(f"{flag}: no metric is named {unknown[0]}, there are {', '.join(expected)}")
    for metric in [metric for metric in limits if math.isnan(expected[metric])]:
        told = f"the limit on {metric} can't be checked, {name} does not define it: {why_undefined(calculator, metric)}"
        if metric not in options.if_defined:
            raise DataError(f"{told}; use other data, or leave the limit out")
        logger.warning("%s", told)
        del limits[metric]
    return limits


def _distinct_names(dumps: Sequence[Dump]) -> list[str]:
    """Names of the folders, or their paths if folders have the same name."""
    counts = Counter(dump.name for dump in dumps)
    return [dump.name if counts[dump.name] == 1 else str(dump.path) for dump in dumps]


def _row(
    name: str,
    dump: Dump,
    metrics: Mapping[str, float],
    expected: Mapping[str, float],
    comparison: DumpComparison,
    tolerance: Tolerance,
    *,
    passed: bool,
) -> dict[str, object]:
    return {
        "name": name,
        "rows": dump.rows,
        **metrics,
        **{f"{metric}_difference": value - expected[metric] for metric, value in metrics.items()},
        "max_abs_diff": comparison.max_abs_diff,
        "p99_abs_diff": comparison.p99_abs_diff,
        "rows_out_of_tolerance": comparison.rows_out_of_tolerance,
        "tolerance": f"{tolerance.atol:g} + {tolerance.rtol:g} * |reference|",
        "passed": passed,
    }


def _far_row(name: str, row: FarRow) -> dict[str, object]:
    told = (name, row.row, row.id, row.output, row.reference, row.answer, row.difference, row.asked_with)
    return dict(zip(_WORST_ROWS, told, strict=True))


def _write_worst_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes the table; without rows, where all answers are equal, its header alone."""
    if rows:
        write_csv(path, rows)
    else:
        write_text(path, ",".join(_WORST_ROWS) + "\n")


if __name__ == "__main__":
    run_entry_point(main)
