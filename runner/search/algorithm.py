"""Search algorithm: a walk along one axis at a time with short windows, then a final between the best
with long ones. It measures nothing itself, so that it can be fed by any searcher, or by a made-up surface.

Every round measures what it compares in one go, the incumbent among it, in an order that changes; what decides are
medians. So a machine that gets slower for a minute does so for all candidates of a comparison.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from runner.config.search import Search
from runner.search.results import MeasuredCandidate, ServingPoint, best_points
from runner.search.space import Candidate, Space

_EXPLORING = 0.55  # of the time; the rest is the final's
_LENIENCE = 1.25  # a p99 of short windows over the budget by less than this may be noise
_PASSES = 3
_SEED = 1


@dataclass(frozen=True)
class Round:
    """Candidates to compare. ``visits_left`` is how many visits, these included, the search is going to take at most;
    ``final`` asks for the long windows."""

    number: int
    candidates: tuple[Candidate, ...]
    final: bool
    visits_left: int


Walk = Generator[Round, Sequence[MeasuredCandidate], None]


def walk(space: Space, search: Search) -> Walk:
    """The rounds of a search. Each is answered by what was measured of it; a candidate that could not be measured is
    left out there, and not asked for again in the exploration. Ends without a final where none could be."""
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
        """Walks along the axes until none leads further or the time for it is spent. Returns where it arrived."""
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
        """Measures the finalists against each other, round by round, as often as the time allows, at least twice where
        a comparison is asked for at all."""
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
        """Visits that may follow an exploring round: what there is time or are candidates for, and the final."""
        final = self._search.finalists * self._search.rounds
        took = self._seconds(final=False)
        unseen = self._space.size - len(self._asked)
        if took is None:
            return unseen + final
        affordable = int((60 * self._search.minutes * _EXPLORING - self._spent()) / took) - now
        return max(0, min(unseen, affordable)) + final

    def _affordable(self, candidates: list[Candidate]) -> list[Candidate]:
        """A random part of the candidates where the time for exploring does not suffice for all."""
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
        """Where the walk arrived, what is configured, and the best of the rest, the first of these with lenience."""
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
        """What a visit took so far, in the mean; None before the first."""
        took = [visit.seconds for visit in self._measured if visit.final is final]
        return sum(took) / len(took) if took else None

    def _expected_final_s(self) -> float:
        longer_s = 3 * max(0.0, self._search.window_ms / 1000 - 1) * len(self._search.concurrency)
        return (self._seconds(final=False) or 0.0) + longer_s
