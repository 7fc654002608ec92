"""Search of the highest rate that holds: first a bracket, then its middle again and again.

Runs are shared: whether the latencies of a run for one budget were above another budget is known without a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from deployment_toolkit.results.capacity import BUDGET, VALID, CapacityRow
from deployment_toolkit.results.performance import DISTURBED, P99

Run = Callable[[float, float], CapacityRow]

TOLERANCE = 0.05  # between the highest rate that holds and the lowest that does not
LEAST_RATE = 10.0  # requests per second
CURVE = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.3)  # shares of the highest capacity
_FIRST = 0.8  # of a closed loop's rate
_IDLE = 0.03  # of it: there requests hardly ever wait for each other, so a lower rate does not hold either
_GROWTH, _CUT, _FAR_CUT = 1.3, 0.7, 0.4
_FAR = 3.0  # p99 above so many budgets is far from holding
_MOST_RATE = 1e6
_CLOSE = 0.06
_MOST_REPEATS = 2


class TimeOver(Exception):
    """A run would end after the time that is given to all of them."""


@dataclass
class Bracket:
    """``holds`` is the highest rate that holds, ``fails`` the lowest above it that does not, both in requests per
    second; 0 and infinity if there is none."""

    holds: float = 0.0
    fails: float = math.inf
    is_closed: bool = False  # the two are close and the one that fails has failed twice, or no rate holds

    @property
    def is_narrow(self) -> bool:
        """True if the two rates differ by no more than the tolerance."""
        return self.holds > 0 and self.fails <= self.holds * (1 + TOLERANCE)


@dataclass
class CapacitySearch:
    """Search with ``run``, which offers a rate, has it judged by a budget (microseconds) and returns the row. It may
    raise TimeOver. ``first`` is a guess of the highest rate."""

    run: Run
    first: float
    brackets: dict[float, Bracket] = field(default_factory=dict)
    _seen: list[tuple[float, CapacityRow]] = field(default_factory=list)

    def find(self, budgets_us: Sequence[float]) -> None:
        """Searches the rate of each budget, the longest first, then measures the rest of the curve. ``brackets`` has
        what was found, also when the time is over."""
        ordered = sorted(set(budgets_us), reverse=True)
        self.brackets = {budget_us: Bracket() for budget_us in ordered}
        try:
            for budget_us in ordered:
                self._find(budget_us)
            self._measure_curve(ordered[0])
        except TimeOver:
            return

    def _find(self, budget_us: float) -> None:
        bracket = self.brackets[budget_us]
        bracket.is_closed = False
        self._update(bracket, budget_us)
        rate = self._first_rate(budget_us)
        while rate >= max(LEAST_RATE, _IDLE * self.first):
            row = self._measure(rate, budget_us)
            failures = self._update(bracket, budget_us)
            if bracket.is_narrow and failures > 1:
                break
            rate = self._next_rate(bracket, row, budget_us)
        bracket.is_closed = True

    def _update(self, bracket: Bracket, budget_us: float) -> int:
        """Draws the bracket from all runs; returns how often the lowest rate above it failed."""
        held = [rate for rate, row in self._seen if row[VALID] and row[BUDGET] == budget_us]
        bracket.holds = max(held, default=0.0)
        failed = [
            rate
            for rate, row in self._seen
            if rate > bracket.holds and (row[P99] > budget_us or (row[BUDGET] == budget_us and not row[VALID]))
        ]
        bracket.fails = min(failed, default=math.inf)
        return failed.count(bracket.fails)

    def _next_rate(self, bracket: Bracket, row: CapacityRow, budget_us: float) -> float:
        if bracket.is_narrow:
            return bracket.fails  # one failure may be this host's, not the server's
        if not bracket.holds:
            return bracket.fails * (_FAR_CUT if row[P99] > _FAR * budget_us else _CUT)
        if math.isinf(bracket.fails):
            return min(bracket.holds * _GROWTH, _MOST_RATE)
        return math.sqrt(bracket.holds * bracket.fails)

    def _first_rate(self, budget_us: float) -> float:
        """The highest rate of the runs so far whose p99 is within the budget; a next one, if that is known to hold."""
        within = [rate for rate, row in self._seen if row[P99] <= budget_us]
        holds = self.brackets[budget_us].holds
        if within and max(within) > holds:
            return max(within)
        if holds:
            return min(holds * _GROWTH, _MOST_RATE)
        above = [rate for rate, _ in self._seen]
        return min(above) * _CUT if above else max(LEAST_RATE, self.first * _FIRST)

    def _measure_curve(self, budget_us: float) -> None:
        """Rates from a low load to beyond what the server can do."""
        highest = max(bracket.holds for bracket in self.brackets.values())
        for rate in (share * highest for share in CURVE):
            if rate >= LEAST_RATE and all(abs(rate / seen - 1) > _CLOSE for seen, _ in self._seen):
                self._measure(rate, budget_us)
        bracket = self.brackets[budget_us]
        before = bracket.holds
        self._update(bracket, budget_us)
        if bracket.holds > before:  # the failures below were this host's, not the server's
            self._find(budget_us)

    def _measure(self, rate: float, budget_us: float) -> CapacityRow:
        """Result of a run; of the last of several, if it fails while others use the cores."""
        row = self.run(rate, budget_us)
        for _ in range(_MOST_REPEATS):
            if row[VALID] or not row.get(DISTURBED):
                break
            row = self.run(rate, budget_us)
        self._seen.append((rate, row))
        return row
