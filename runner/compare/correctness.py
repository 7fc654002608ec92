"""Comparison of correctness: how far the served answers are from the framework's, in each run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from deployment_toolkit.errors import DataError
from runner.compare.alignment import Together
from runner.kept_run import DIFFERENCE, metrics_of

# A metric's distance from the framework's may grow by this: a tenth of what the gate allows in a reduced precision.
LARGER_LOSS = 1e-4
NEGLIGIBLE = 1e-5  # a smaller difference is left out of tables for people
_PASSED = "True"
_FRAMEWORK = "framework"


@dataclass(frozen=True)
class CorrectnessLine:
    """A figure of one dump in the first run, ``base``, and in the run ``run``. What is judged is how far the
    answers are from the framework's; a metric by itself depends on the checkpoint and is only shown."""

    experiment: str
    dump: str
    measure: str
    base: str
    value: str
    run: str
    worse: bool = False
    judged: bool = True
    matters: bool = False  # to people: it differs by more than NEGLIGIBLE, and no other line says so

    @property
    def verdict(self) -> str:
        """What the line tells."""
        if self.base == self.value:
            return "same"
        return "not judged" if not self.judged else "worse" if self.worse else "not worse"

    def __str__(self) -> str:
        return f"{self.experiment}, correctness, {self.dump}, {self.measure}: {self.base} -> {self.value}"


@dataclass(frozen=True)
class _Figure:
    """A figure of two dumps of the same name; one ``of_checkpoint`` says little of how the model is served."""

    measure: str
    values: tuple[str, str]
    worse: bool = False
    differs: bool = False
    of_checkpoint: bool = False


def correctness_lines(together: Sequence[Together], names: Sequence[str]) -> list[CorrectnessLine]:
    """Lines of all dumps that the first run shares with another. Raises DataError for a value that is no number."""
    return [
        line
        for index in range(1, len(names))
        for item in together
        if (base := item.sides[0]) is not None and (other := item.sides[index]) is not None
        for line in _of_pair(item.title, base.correctness, other.correctness, names[index])
    ]


def _of_pair(
    experiment: str, base: Sequence[Mapping[str, str]], other: Sequence[Mapping[str, str]], run: str
) -> Iterator[CorrectnessLine]:
    seconds = {row["name"]: row for row in other}
    for first in base:
        second = seconds.get(first["name"])
        if second is None:
            continue
        for figure in _figures(first, second):
            matters = figure.differs and (first["name"] == _FRAMEWORK or not figure.of_checkpoint)
            yield CorrectnessLine(
                experiment, first["name"], figure.measure, *figure.values, run,
                worse=figure.worse, judged=not figure.of_checkpoint, matters=matters,
            )  # fmt: skip


def _figures(first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[_Figure]:
    for metric in metrics_of(first):
        if metric in metrics_of(second):
            values = [_number(row[metric]) for row in (first, second)]
            yield _Figure(metric, (_shown(values[0]), _shown(values[1])), differs=_apart(values), of_checkpoint=True)
            losses = [abs(_number(row[f"{metric}{DIFFERENCE}"])) for row in (first, second)]
            told = (f"{losses[0]:.1e}", f"{losses[1]:.1e}")
            yield _Figure(f"{metric}, distance", told, losses[1] > losses[0] + LARGER_LOSS, _apart(losses))
    if "rows_out_of_tolerance" in first and "rows_out_of_tolerance" in second:
        rows = (first["rows_out_of_tolerance"], second["rows_out_of_tolerance"])
        shares = [_share(row) for row in (first, second)]
        yield _Figure("rows out of tolerance", rows, shares[1] > shares[0], rows[0] != rows[1])
    if "passed" in first and "passed" in second:
        passed = [row["passed"] == _PASSED for row in (first, second)]
        told = ("yes" if passed[0] else "no", "yes" if passed[1] else "no")
        yield _Figure("passed", told, passed[0] and not passed[1], passed[0] != passed[1])


def _apart(values: Sequence[float]) -> bool:
    return values[0] != values[1] and abs(values[0] - values[1]) > NEGLIGIBLE


def _share(row: Mapping[str, str]) -> float:
    return _number(row["rows_out_of_tolerance"]) / max(1.0, _number(row.get("rows", "1")))


def _shown(number: float) -> str:
    return "undefined" if math.isinf(number) else f"{number:.6f}"


def _number(text: str) -> float:
    """Number of a cell; NaN, which is farther than any number, counts as infinite. An empty cell is not known."""
    try:
        number = float(text) if text else 0.0
    except ValueError as error:
        raise DataError(f"a table of correctness has {text!r} where a number is due: give another run") from error
    return math.inf if math.isnan(number) else number
