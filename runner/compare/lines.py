"""Lines of a comparison: one figure of one experiment at one point, in the first run and in another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deployment_toolkit.core import Mnemonic
from deployment_toolkit.results.performance import (
    AVERAGE,
    BATCH,
    CONCURRENCY,
    P99,
    THROUGHPUT,
    US_PER_MS,
    WINDOW_LATENCIES,
    WINDOW_RATES,
    PerformanceRow,
)
from runner.compare.alignment import Together
from runner.compare.capacity import CAPACITY, capacity_figures
from runner.compare.intervals import Interval, ratio_interval
from runner.compare.noise import WAS_DISTURBED, Noise, noise_between
from runner.compare.points import SweepPoint, point_of
from runner.kept_run import KeptRun

OFFLINE, ONLINE = "offline", "online"


class LineVerdict(Mnemonic):
    """What a line tells."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "can't be told apart"
    UNKNOWN = "no interval"


@dataclass(frozen=True)
class Measure:
    """A figure of a row: its title with the unit, the row's value, the values of its windows, and what it is divided by
    for people."""

    title: str
    column: str
    windows: str
    higher_is_better: bool
    divisor: float = 1.0


MEASURES = (
    Measure("inferences/s", THROUGHPUT, WINDOW_RATES, higher_is_better=True),
    Measure("avg latency (ms)", AVERAGE, WINDOW_LATENCIES, higher_is_better=False, divisor=US_PER_MS),
    Measure("p99 latency (ms)", P99, "", higher_is_better=False, divisor=US_PER_MS),
)


@dataclass(frozen=True)
class Line:
    """A figure in the first run, ``base``, and in the run ``run``; ``point`` names it within the experiment's scenario.
    ``interval`` is that of the ratio ``value / base``; None if the files don't tell it."""

    scenario: str
    experiment: str
    point: tuple[tuple[str, str], ...]
    measure: str
    higher_is_better: bool
    base: float
    value: float
    run: str
    interval: Interval | None = None
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """``value / base``."""
        return self.value / self.base if self.base else (1.0 if self.value == self.base else float("inf"))

    @property
    def is_rate(self) -> bool:
        """True for a throughput, False for a latency."""
        return self.higher_is_better

    @property
    def is_disturbed(self) -> bool:
        """True if a measurement of it was disturbed."""
        return any(note.startswith(WAS_DISTURBED) for note in self.notes)

    @property
    def verdict(self) -> LineVerdict:
        """Whether the figure got better or worse beyond what the interval leaves open."""
        if self.interval is None:
            return LineVerdict.UNKNOWN
        if self.interval.holds_equality:
            return LineVerdict.EQUAL
        return LineVerdict.BETTER if (self.interval.low > 1) == self.higher_is_better else LineVerdict.WORSE

    def is_regression(self, limit: float) -> bool:
        """True if the figure is worse by more than ``limit``, a share, at every ratio of the interval."""
        if self.interval is None:
            return False
        return self.interval.high < 1 - limit if self.higher_is_better else self.interval.low > 1 + limit

    @property
    def place(self) -> str:
        """Experiment, scenario and point, for an axis."""
        return f"{self.experiment}, {self.scenario} {' x '.join(value for _, value in self.point)}"

    def __str__(self) -> str:
        where = ", ".join(f"{name} {value}" for name, value in self.point)
        return f"{self.experiment}, {self.scenario}, {where}, {self.measure}"


def lines_of(together: Sequence[Together], runs: Sequence[KeptRun], names: Sequence[str]) -> list[Line]:
    """Lines of all figures that the first run shares with another, run by run."""
    return [
        line for index in range(1, len(runs)) for item in together for line in _of_pair(item, index, runs, names[index])
    ]


def _of_pair(item: Together, index: int, runs: Sequence[KeptRun], name: str) -> Iterator[Line]:
    base, other = item.sides[0], item.sides[index]
    if base is None or other is None:
        return
    for scenario, rows in ((OFFLINE, (base.offline, other.offline)), (ONLINE, (base.online, other.online))):
        first, second = (_points(side) for side in rows)
        for point in first:
            if point in second:
                pair = (first[point], second[point])
                noise = noise_between(runs[0], runs[index], *pair)
                where = ((BATCH.lower(), str(point[0])), (CONCURRENCY.lower(), str(point[1])))
                for measure in MEASURES:
                    yield _line(measure, pair, noise, scenario, item.title, where, name)
    for figure in capacity_figures(base.capacity, other.capacity):
        yield Line(CAPACITY, item.title, run=name, **vars(figure))


def _points(rows: Sequence[PerformanceRow]) -> dict[SweepPoint, PerformanceRow]:
    return {point_of(row): row for row in rows}


def _line(
    measure: Measure,
    pair: tuple[PerformanceRow, PerformanceRow],
    noise: Noise,
    scenario: str,
    experiment: str,
    point: tuple[tuple[str, str], ...],
    run: str,
) -> Line:
    base, value = (float(row[measure.column]) / measure.divisor for row in pair)
    interval = None
    if measure.windows and base > 0:
        windows = [row.get(measure.windows) or () for row in pair]
        interval = ratio_interval(value / base, *windows)
        if interval is not None:
            interval = noise.of_rate(interval) if measure.higher_is_better else noise.of_latency(interval)
    return Line(
        scenario, experiment, point, measure.title, measure.higher_is_better, base, value, run, interval, noise.notes
    )
