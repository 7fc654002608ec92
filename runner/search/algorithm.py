"""Search algorithm: a walk along one axis at a time with short windows, then a final of the best candidates with long
windows. It measures nothing itself, so any searcher, or an invented surface, can supply the measurements.

Every round measures all candidates of a comparison, with the incumbent, one after the other in a changing order;
medians decide. So a machine that is slower for a minute is slower for all candidates of a comparison.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from runner.config.search import Search
from runner.search.results import MeasuredCandidate, ServingPoint, best_points
from runner.search.space import Candidate, Space

_EXPLORING = 0.55  # share of the time; the rest is for the final
_LENIENCE = 1.25  # a p99 of short windows that exceeds the budget by a smaller factor may be noise
_PASSES = 3
_SEED = 1


@dataclass(frozen=True)
class Round:
    """Candidates to compare. ``visits_left`` is the largest number of visits that the search will still make, these
    included; ``final`` requires the long windows."""

    number: int
    candidates: tuple[Candidate, ...]
    final: bool
    visits_left: int


Walk = Generator[Round, Sequence[MeasuredCandidate], None]


def walk(space: Space, search: Search) -> Walk:
    """Yields the rounds of a search. The caller sends the measurements of each round, without the candidates that could
    not be measured; the exploration does not request them again. Ends without a final if nothing could be measured."""
    state = _State(space, search, random.Random(_SEED))
    incumbent = yield from state.explore()
    if incumbent is not None:
        yield from state.decide(incumbent)


class _State:
    """State of a search."""

    def __init__(self, space: Space, search: Search, generator: random.Random) -> None:
        self._space = space
        self._search = search
        self._random = generator
        self._measured: list[MeasuredCandidate] = []
        self._asked: set[Candidate] = set()
        self._round = 0

    def explore(self) -> Generator[Round, Sequence[MeasuredCandidate], Candidate | None]:
        """Walks along the axes until none improves the incumbent or the time is spent. Returns the last incumbent."""
        incumbent: Candidate = self._space.start
        for _ in range(_PASSES):
            before = incumbent
            for axis in range(len(self._space.axes(incumbent))):
                axes = self._space.axes(incumbent)
                new = [item for item in axes[min(axis, len(axes) - 1)] if item not in self._asked | {incumbent}]
                new = self._affordable(new)
                if new:
                    answer = yield from self._ask([incumbent, *new], final=False)
                    incumbent = self._best(answer, incumbent)
            if incumbent == before:
                break
        return incumbent if self._measured else None

    def decide(self, incumbent: Candidate) -> Walk:
        """Compares the finalists, round by round, as often as the time allows, and at least twice if more than one
        round is configured."""
        finalists = self._finalists(incumbent)
        least = min(2, self._search.rounds)
        for number in range(self._search.rounds):
            took = self._seconds(final=True) or self._expected_final_s()
            if number >= least and self._spent() + took * len(finalists) > 60 * self._search.minutes:
                break
            yield from self._ask(finalists, final=True, rounds_left=self._search.rounds - number)

    def _ask(
        self, candidates: list[Candidate], *, final: bool, rounds_left: int = 1
    ) -> Generator[Round, Sequence[MeasuredCandidate], Sequence[MeasuredCandidate]]:
        self._round += 1
        self._asked |= set(candidates)
        self._random.shuffle(candidates)
        left = len(candidates) * rounds_left if final else len(candidates) + self._ahead(len(candidates))
        answer = yield Round(self._round, tuple(candidates), final, left)
        self._measured += answer
        return answer

    def _ahead(self, now: int) -> int:
        """Largest number of visits after an exploring round, limited by time and by candidates, with the final."""
        final = self._search.finalists * self._search.rounds
        took = self._seconds(final=False)
        unseen = self._space.size - len(self._asked)
        if took is None:
            return unseen + final
        affordable = int((60 * self._search.minutes * _EXPLORING - self._spent()) / took) - now
        return max(0, min(unseen, affordable)) + final

    def _affordable(self, candidates: list[Candidate]) -> list[Candidate]:
        """Candidates for which there is time to explore: all, or a random part."""
        took = self._seconds(final=False)
        if took is None:
            return candidates
        count = int((60 * self._search.minutes * _EXPLORING - self._spent()) / took) - 1  # the incumbent is visited too
        if count >= len(candidates):
            return candidates
        return self._random.sample(candidates, max(0, count))

    def _best(self, answer: Sequence[MeasuredCandidate], incumbent: Candidate) -> Candidate:
        ranked = best_points(answer, self._search.p99_budget_ms)
        return ranked[0].candidate if ranked else incumbent

    def _finalists(self, incumbent: Candidate) -> list[Candidate]:
        """Finalists: the last incumbent, the configured candidate, and the best others, the first with lenience."""
        budget_ms = self._search.p99_budget_ms
        known = {visit.candidate for visit in self._measured}
        ranked: list[ServingPoint] = best_points(self._measured, budget_ms)
        lenient = best_points(self._measured, budget_ms * _LENIENCE)[:1]
        order = [incumbent, *(point.candidate for point in (*lenient, *ranked))]
        chosen = list(dict.fromkeys(item for item in order if item in known and item != self._space.start))
        start = [self._space.start] if self._space.start in known else []
        return [*chosen[: self._search.finalists - len(start)], *start]

    def _spent(self) -> float:
        return sum(visit.seconds for visit in self._measured)

    def _seconds(self, *, final: bool) -> float | None:
        """Mean time of the visits so far; None before the first."""
        took = [visit.seconds for visit in self._measured if visit.final is final]
        return sum(took) / len(took) if took else None

    def _expected_final_s(self) -> float:
        longer_s = 3 * max(0.0, self._search.window_ms / 1000 - 1) * len(self._search.concurrency)
        return (self._seconds(final=False) or 0.0) + longer_s
