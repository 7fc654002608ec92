"""The gate of a deployment: dumps against a reference dump, row by row and by their metrics, and a table of them."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.errors import DataError, ToleranceError, UsageError
from deployment_toolkit.files.atomic import require_writable, write_text
from deployment_toolkit.options.argument_types import named_limit
from deployment_toolkit.options.params import option
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

MakeCalculator = Callable[[], Any]


@dataclass(frozen=True)
class GateLimits:
    """Options: how much a dump may differ from the reference.

    The default tolerances are for fp32. Runtimes differ in the order of their sums. This changes a logit by about 1e-6
    and a probability by at most a quarter of that. So 1e-5 leaves a margin of ten, and is a tenth of the difference
    that could matter to MAP@12 at 1e-4. The relative part lets a small probability p change by p times the change of
    its logit, up to 1e-4.
    """

    atol: float = option("largest absolute difference from the reference in any row", 1e-5)
    rtol: float = option("relative tolerance, added to it: this times the reference", 1e-4)
    max_metric_loss: list[tuple[str, float]] = option(
        "largest loss of a metric against the reference's; repeatable",
        [],
        type=named_limit,
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


def check_dumps(
    reference_path: Path,
    dump_paths: Sequence[Path],
    limits: GateLimits,
    make_calculator: MakeCalculator | None,
    *,
    csv: Path,
    worst_rows_csv: Path | None = None,
) -> None:
    """Compares dumps with the reference's and writes the tables, also when the gate fails. Raises ToleranceError, which
    names every failed dump and its worst rows, and DataError if a limit is asked for on a metric that the reference
    does not define. Without ``make_calculator`` there are no metrics."""
    for path in filter(None, (csv, worst_rows_csv)):
        require_writable(path)
    tolerance = Tolerance(limits.atol, limits.rtol)
    reference, dumps = Dump(reference_path), [Dump(path) for path in dump_paths]
    names = _distinct_names([reference, *dumps])
    calculator = make_calculator() if make_calculator else None
    expected = _metrics(calculator, reference)
    losses = _checkable(limits, calculator, expected, names[0])
    same = DumpComparison(max_abs_diff=0.0, p99_abs_diff=0.0, rows_out_of_tolerance=0)
    table = [_row(names[0], reference, expected, expected, same, tolerance, passed=True)]
    failures: list[str] = []
    farthest: list[dict[str, object]] = []
    for name, dump in zip(names[1:], dumps, strict=True):
        calculator = make_calculator() if make_calculator else None
        metrics = _metrics(calculator, dump)
        comparison = compare_dumps(dump, reference, tolerance)
        problems = [comparison.problem] if comparison.problem else []
        problems += _metric_problems(calculator, metrics, expected, losses)
        table.append(_row(name, dump, metrics, expected, comparison, tolerance, passed=not problems))
        farthest += [_far_row(name, row) for row in comparison.farthest]
        logger.info("%s, %d rows: %s", name, dump.rows, "; ".join(problems) or "agrees with the reference")
        failures += [f"{name}: {problem}" for problem in problems]
    write_csv(csv, table)
    if worst_rows_csv is not None:
        _write_worst_rows(worst_rows_csv, farthest)
    if failures:
        raise ToleranceError(f"{'; '.join(failures)} (compared with {names[0]}; table in {csv})")


def _metrics(calculator: Any, dump: Dump) -> dict[str, float]:
    return {} if calculator is None else dump_metrics(calculator, dump)


def _metric_problems(
    calculator: Any, metrics: Mapping[str, float], expected: Mapping[str, float], losses: Mapping[str, float]
) -> list[str]:
    """A phrase for each metric that is worse than the reference's by more than its limit."""
    lower_is_better = set(getattr(calculator, "lower_is_better", ()))
    problems = []
    for metric, limit in losses.items():
        loss = metric_loss(metrics[metric], expected[metric], lower_is_better=metric in lower_is_better)
        if math.isnan(loss):
            problems.append(f"{metric} is not defined: {why_undefined(calculator, metric)}")
        elif loss > limit:
            problems.append(f"{metric} is {metrics[metric]:.6f}, more than {limit:g} worse than {expected[metric]:.6f}")
    return problems


def _checkable(limits: GateLimits, calculator: Any, expected: Mapping[str, float], name: str) -> dict[str, float]:
    """Limits of the metrics that the reference ``name`` defines. Raises UsageError for a metric that the calculator
    doesn't have, DataError for one that is not defined, unless ``--if-defined`` names it."""
    losses = dict(limits.max_metric_loss)
    for flag, metrics in (("--max-metric-loss", losses), ("--if-defined", limits.if_defined)):
        if metrics and calculator is None:
            raise UsageError(f"{flag} limits a metric: give --metrics, the module that computes it")
        unknown = sorted(set(metrics) - expected.keys())
        if unknown:
            raise UsageError(f"{flag}: no metric is named {unknown[0]}, there are {', '.join(expected)}")
    for metric in [metric for metric in losses if math.isnan(expected[metric])]:
        told = f"the limit on {metric} can't be checked, {name} does not define it: {why_undefined(calculator, metric)}"
        if metric not in limits.if_defined:
            raise DataError(f"{told}; use other data, or leave the limit out")
        logger.warning("%s", told)
        del losses[metric]
    return losses


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
