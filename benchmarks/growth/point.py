"""Points of growth, the measurements at one size, and their table, which is kept between runs."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from deployment_toolkit.core import Mnemonic
from deployment_toolkit.errors import UsageError
from deployment_toolkit.results.tables import write_csv


class Axis(Mnemonic):
    """Axis of growth."""

    ROWS = "rows"
    TABLES = "tables"
    INSTANCES = "instances"
    IN_FLIGHT = "in-flight"


@dataclass(frozen=True)
class GrowthMeasurement:
    """Measured values. ``seconds``: of work, or to load a model; ``memory_mib``: peak of the process, or proportional
    set size of the server with its children; ``rows_per_s`` and ``p99_ms``: perf_analyzer's values, or rows divided by
    seconds."""

    seconds: float
    memory_mib: float
    rows_per_s: float
    p99_ms: float = math.nan


@dataclass(frozen=True)
class GrowthJob:
    """One possible measurement. ``settings`` is everything, except the size, on which its result depends."""

    axis: Axis
    subject: str
    size: int
    settings: str
    measure: Callable[[], GrowthMeasurement]


@dataclass(frozen=True)
class GrowthPoint:
    """A measured job, with ``machine`` and time."""

    axis: str
    subject: str
    size: int
    settings: str
    machine: str
    date: str
    seconds: float
    memory_mib: float
    rows_per_s: float
    p99_ms: float


class Points:
    """Measured points in a CSV file that is rewritten after each. Raises UsageError if another file has that name."""

    def __init__(self, path: Path, machine: str, *, fresh: bool) -> None:
        self._path = path
        self._machine = machine
        self._points = [] if fresh or not path.exists() else _read(path)

    def find(self, job: GrowthJob) -> GrowthPoint | None:
        """Point of an equal job on this machine."""
        key = (str(job.axis), job.subject, job.size, job.settings, self._machine)
        return next((point for point in self._points if _key(point) == key), None)

    def add(self, job: GrowthJob, measured: GrowthMeasurement, date: str) -> None:
        """Keeps a point, in place of an earlier one with the same key."""
        values = asdict(measured)
        point = GrowthPoint(str(job.axis), job.subject, job.size, job.settings, self._machine, date, **values)
        self._points = [other for other in self._points if _key(other) != _key(point)] + [point]
        write_csv(self._path, [asdict(item) for item in self._points])

    def of(self, jobs: Sequence[GrowthJob]) -> list[GrowthPoint]:
        """Existing points of these jobs, in the jobs' order."""
        return [point for job in jobs if (point := self.find(job)) is not None]


def exponent(points: Sequence[GrowthPoint], value: Callable[[GrowthPoint], float]) -> float:
    """Exponent k of ``value`` ~ size^k: the slope of the least squares line through the logarithms of the points in the
    largest two decades, where constant costs no longer hide the growth. NaN with fewer than two points."""
    largest = max((point.size for point in points), default=0)
    pairs = [(math.log(point.size), math.log(value(point))) for point in points if point.size * 100 >= largest]
    if len(pairs) < 2:
        return math.nan
    mean_x, mean_y = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in pairs)
    return sum((x - mean_x) * (y - mean_y) for x, y in pairs) / spread if spread else math.nan


def _key(point: GrowthPoint) -> tuple[str, str, int, str, str]:
    return point.axis, point.subject, point.size, point.settings, point.machine


def _read(path: Path) -> list[GrowthPoint]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = {field.name: {"int": int, "float": float}.get(str(field.type), str) for field in fields(GrowthPoint)}
    try:
        return [GrowthPoint(**{name: kinds[name](text) for name, text in row.items()}) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} is no table of growth: name another --output-dir, or --fresh to replace it"
        ) from error
