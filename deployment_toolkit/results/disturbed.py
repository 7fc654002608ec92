"""Which measurements were disturbed by what else the machine did, from the columns of a performance CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deployment_toolkit.results.performance import (
    DISTURBED,
    DISTURBED_MARK,
    OTHER_CORES,
    SPEED_AFTER,
    SPEED_BEFORE,
    STEAL_CORES,
    PerformanceRow,
)

# A tenth of the cores can change a result by about a tenth, by which the windows of a settled measurement may differ.
# A quiet Linux uses far less.
MOST_OTHERS = 0.1
# On a virtual machine of a busy host the best of a few tries of the same work varied by less than a tenth, and by a
# quarter or more when something was wrong.
MOST_SLOWER = 0.2


def is_disturbed(row: PerformanceRow, cores: int) -> bool:
    """True if others had more than a tenth of the measurement's ``cores``, or the CPU was more than a fifth slower
    before or after the measurement than on the other side of it. What is unknown (None) disturbs nothing."""
    others = (row[OTHER_CORES] or 0.0) + (row[STEAL_CORES] or 0.0)
    return others > MOST_OTHERS * cores or _is_slow(row, _best([row]))


def judged(rows: Sequence[PerformanceRow], among: Iterable[PerformanceRow] = ()) -> list[PerformanceRow]:
    """The rows, marked as well where the CPU was more than a fifth slower than at best in these rows and in those
    ``among`` which they were measured, as the other experiments of a run."""
    best = _best([*rows, *among])
    return [{**row, DISTURBED: True} if _is_slow(row, best) else row for row in rows]


def disturbance_sentence(rows: Sequence[PerformanceRow]) -> str:
    """One sentence about all measurements of a run; empty if none was watched, as in files of other tools."""
    watched = [row for row in judged(rows) if row.get(DISTURBED) is not None]
    if not watched:
        return ""
    disturbed = [row for row in watched if row[DISTURBED]]
    if not disturbed:
        return f"No measurement was disturbed{_reasons(watched, 'at most')}."
    were = "was" if len(disturbed) == 1 else "were"
    counted = f"{len(disturbed)} of {len(watched)} measurements {were} disturbed ({DISTURBED_MARK})"
    return f"{counted}{_reasons(disturbed, 'up to', _best(watched))}."


def what_disturbed(row: PerformanceRow, among: Iterable[PerformanceRow] = ()) -> str:
    """Phrase for what was seen during one measurement; the CPU's best is that of the row and of those ``among`` which
    it was measured."""
    return _reasons([row], "", _best([row, *among])).removeprefix(": ")


def _reasons(rows: Sequence[PerformanceRow], limit: str, best_ms: float | None = None) -> str:
    """What others used in these measurements, and by how much the CPU was slower than ``best_ms``."""
    limit = f"{limit} " if limit else ""
    reasons = []
    other, steal = (_known(rows, column) for column in (OTHER_CORES, STEAL_CORES))
    if other:
        reasons.append(f"other programs used {limit}{max(other):.2f} cores")
    if len(other) < len(rows):
        of = f" for {len(rows) - len(other)} of them" if other else ""
        reasons.append(f"what other programs used is unknown{of}")
    if steal and max(steal) >= 0.005:
        reasons.append(f"other virtual machines took {limit}{max(steal):.2f} cores")
    slowest = max(_known(rows, SPEED_BEFORE, SPEED_AFTER), default=0.0)
    best = _best(rows) if best_ms is None else best_ms
    if best and slowest > best * (1 + MOST_SLOWER):
        reasons.append(f"the CPU took {limit}{slowest / best:.1f} times as long for the same work as at best")
    return f": {', '.join(reasons)}" if reasons else ""


def _best(rows: Iterable[PerformanceRow]) -> float:
    """The shortest time of the fixed bit of work; 0 if none is known."""
    return min(_known(rows, SPEED_BEFORE, SPEED_AFTER), default=0.0)


def _is_slow(row: PerformanceRow, best_ms: float) -> bool:
    return max(_known([row], SPEED_BEFORE, SPEED_AFTER), default=0.0) > best_ms * (1 + MOST_SLOWER)


def _known(rows: Iterable[PerformanceRow], *columns: str) -> list[float]:
    return [float(row[column]) for row in rows for column in columns if row.get(column) is not None]
