"""What the host may have done to two measurements, beyond what their windows show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deployment_toolkit.results.performance import (
    DISTURBED,
    OTHER_CORES,
    SETTLED,
    SPEED_AFTER,
    SPEED_BEFORE,
    STEAL_CORES,
    PerformanceRow,
    refused_share,
)
from runner.compare.intervals import Interval
from runner.kept_run import KeptRun

WAS_DISTURBED = "disturbed"  # begins a note of a line
_MOST_LOST = 0.95


@dataclass(frozen=True)
class Noise:
    """What two measurements lost to other programs, as shares of the host's cores, and how much more time the second
    one's CPU took for the same work; 0 and 1 where it is not known."""

    lost_base: float
    lost_other: float
    slowness: float
    notes: tuple[str, ...]

    def of_rate(self, interval: Interval) -> Interval:
        """The interval of a ratio of rates, widened: without other programs each side could have been faster by its
        share, and at the other's speed of the CPU the second faster or slower."""
        low = (1 - self.lost_base) * min(self.slowness, 1.0)
        high = max(self.slowness, 1.0) / (1 - self.lost_other)
        return interval.widened(low, high)

    def of_latency(self, interval: Interval) -> Interval:
        """The interval of a ratio of latencies, widened likewise."""
        low = (1 - self.lost_other) / max(self.slowness, 1.0)
        high = 1 / (1 - self.lost_base) / min(self.slowness, 1.0)
        return interval.widened(low, high)


def noise_between(base: KeptRun, other: KeptRun, base_row: PerformanceRow, other_row: PerformanceRow) -> Noise:
    """Noise of two rows. The CPU's speed counts only where both runs name the same CPU: else it is a part of what is
    compared."""
    same_cpu = base.system.get("cpu") == other.system.get("cpu")
    speeds = [_speed_ms(row) for row in (base_row, other_row)]
    slowness = speeds[1] / speeds[0] if same_cpu and all(speeds) else 1.0
    return Noise(_lost(base, base_row), _lost(other, other_row), slowness, _notes(base_row, other_row))


def side_note(text: str, is_so: Sequence[bool]) -> tuple[str, ...]:
    """Note of what is so of the first side, the second or both; empty if of none."""
    where = {(True, True): "both", (True, False): "first", (False, True): "second"}.get((is_so[0], is_so[1]))
    return (f"{text}: {where}",) if where else ()


def _lost(run: KeptRun, row: PerformanceRow) -> float:
    cores = run.system.get("cores") or 0
    others = sum(float(row.get(name) or 0.0) for name in (OTHER_CORES, STEAL_CORES))
    return min(others / cores, _MOST_LOST) if cores else 0.0


def _speed_ms(row: PerformanceRow) -> float:
    known = [float(row[name]) for name in (SPEED_BEFORE, SPEED_AFTER) if row.get(name)]
    return sum(known) / len(known) if known else 0.0


def _notes(base: PerformanceRow, other: PerformanceRow) -> tuple[str, ...]:
    notes: list[str] = []
    for word, marks in (
        (WAS_DISTURBED, [bool(row.get(DISTURBED)) for row in (base, other)]),
        ("unsettled", [not row[SETTLED] for row in (base, other)]),
    ):
        notes += side_note(word, marks)
    for where, row in (("first", base), ("second", other)):
        share = refused_share(row)
        notes += [f"{share:.1%} refused: {where}"] if share else []
    return tuple(notes)
