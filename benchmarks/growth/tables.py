"""Tables of growth, as markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.growth.point import Axis, GrowthPoint, exponent


@dataclass(frozen=True)
class GrowthQuantity:
    """Shown quantity of a point."""

    title: str
    value: Callable[[GrowthPoint], float]


SECONDS = GrowthQuantity("seconds", lambda point: point.seconds)
MEMORY = GrowthQuantity("peak memory, MiB", lambda point: point.memory_mib)
SERVER_MEMORY = GrowthQuantity("memory of the server (PSS), MiB", lambda point: point.memory_mib)
RATE = GrowthQuantity("rows/s", lambda point: point.rows_per_s)
P99 = GrowthQuantity("p99, ms", lambda point: point.p99_ms)
LOADING = GrowthQuantity("seconds to load", lambda point: point.seconds)


@dataclass(frozen=True)
class Shown:
    """Presentation of an axis: its name, the unit of its sizes, the columns of its table and the panels of its
    picture."""

    title: str
    size: str
    columns: tuple[GrowthQuantity, ...]
    panels: tuple[GrowthQuantity, ...]


SHOWN = {
    Axis.ROWS: Shown("Rows of data", "rows", (SECONDS, RATE, MEMORY), (SECONDS, MEMORY)),
    Axis.TABLES: Shown(
        "Size of the embedding tables", "ids", (LOADING, SERVER_MEMORY, RATE, P99), (LOADING, SERVER_MEMORY, RATE)
    ),
    Axis.INSTANCES: Shown(
        "Instances", "instances", (LOADING, SERVER_MEMORY, RATE, P99), (LOADING, SERVER_MEMORY, RATE)
    ),
    Axis.IN_FLIGHT: Shown("Rows in flight", "rows in flight", (RATE, P99, SERVER_MEMORY), (RATE, P99, SERVER_MEMORY)),
}


def section(axis: Axis, points: Sequence[GrowthPoint]) -> str:
    """Section of an axis: a heading, the settings, a table of all points, and the exponents if sizes span decades."""
    shown = SHOWN[axis]
    heads = [shown.size, *(column.title for column in shown.columns)]
    lines = [f"## {shown.title}", "", *_settings(points), ""]
    lines += [f"| | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    subjects = list(dict.fromkeys(point.subject for point in points))
    for subject in subjects:
        for point in sorted((point for point in points if point.subject == subject), key=lambda point: point.size):
            cells = [f"{point.size:,}", *(_number(column.value(point)) for column in shown.columns)]
            lines.append(f"| {subject} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(_exponents(points, subjects) if axis is Axis.ROWS else [])])


def _settings(points: Sequence[GrowthPoint]) -> list[str]:
    """Time of the measurement, and the settings of each subject."""
    dates = [point.date for point in points]
    told: dict[str, dict[str, None]] = {}
    for point in points:
        told.setdefault(point.settings, {})[point.subject] = None
    when = min(dates) if min(dates) == max(dates) else f"{min(dates)} to {max(dates)}"
    return [f"Measured {when}.", "", *(f"- {', '.join(names)}: {settings}" for settings, names in told.items())]


def _exponents(points: Sequence[GrowthPoint], subjects: Sequence[str]) -> list[str]:
    lines = ["Time and memory grow with rows^k, over the largest two decades:", ""]
    lines += ["| | k of time | k of memory | bytes of memory a further row |", "| --- | ---: | ---: | ---: |"]
    for subject in subjects:
        own = sorted((point for point in points if point.subject == subject), key=lambda point: point.size)
        time, memory = exponent(own, SECONDS.value), exponent(own, MEMORY.value)
        lines.append(f"| {subject} | {time:.2f} | {memory:.2f} | {_bytes_a_row(own)} |")
    return [*lines, ""]


def _bytes_a_row(points: Sequence[GrowthPoint]) -> str:
    """Bytes per additional row, from the last but one size to the last."""
    if len(points) < 2:
        return ""
    before, last = points[-2:]
    return f"{(last.memory_mib - before.memory_mib) * 2**20 / (last.size - before.size):,.0f}"


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
