"""Verdict of a search: the choice, and its reasons in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.search import Search
from runner.search.results import MeasuredCandidate, ServingPoint, best_finalists
from runner.search.space import Candidate


@dataclass(frozen=True)
class Verdict:
    """The chosen point and the compared points, the best first; ``start`` is the configured candidate."""

    ranking: tuple[ServingPoint, ...]
    start: Candidate
    search: Search

    @classmethod
    def of(cls, measured: Sequence[MeasuredCandidate], start: Candidate, search: Search) -> Verdict:
        """Verdict from the final's visits, or from all visits without a final."""
        return cls(tuple(best_finalists(measured, search.p99_budget_ms)), start, search)

    @property
    def chosen(self) -> ServingPoint:
        """Chosen point."""
        return self.ranking[0]

    @property
    def met(self) -> bool:
        """True if the chosen point is within the budget."""
        return self.chosen.keeps_to(self.search.p99_budget_ms)

    @property
    def summary(self) -> str:
        """Verdict in one line."""
        chosen, budget = self.chosen, f"{self.search.p99_budget_ms:g} ms"
        kept = "" if self.met else f"; NO candidate kept to the budget of {budget}, this is the nearest to it"
        return f"chosen: {chosen.candidate}: {_figures(chosen)}{kept}"

    @property
    def paragraph(self) -> str:
        """Verdict in a paragraph: the choice and its reason."""
        return " ".join([self._choice(), *self._others(), *self._noise()])

    @property
    def yaml(self) -> str:
        """Lines of an experiment's ``parameters`` with the chosen settings."""
        candidate = self.chosen.candidate
        lines = [f"number_of_model_instances: {candidate.instances}"]
        if candidate.threads is not None:
            lines.append(f"threads: {candidate.threads}")
        lines.append(f"preferred_batch_sizes: [{', '.join(map(str, candidate.preferred_batch_sizes))}]")
        lines.append(f"max_queue_delay_us: {candidate.max_queue_delay_us}")
        return "\n".join(f"    {line}" for line in lines)

    def _choice(self) -> str:
        load = f"{self.search.rows_per_request} rows a request over {self.search.protocol}"
        text = f"Chosen for {load}: **{self.chosen.candidate}**, {_figures(self.chosen)}"
        budget = f"{self.search.p99_budget_ms:g} ms"
        if self.met:
            return f"{text}, within the budget of {budget}."
        return (
            f"{text}. **No candidate kept to the budget of {budget}**: this one came nearest to it. Fewer requests at "
            "a time, a faster format or a larger budget would help."
        )

    def _others(self) -> list[str]:
        told = [f"Runner-up: {point.candidate}, {self._compared(point)}." for point in self.ranking[1:2]]
        start = next((point for point in self.ranking if point.candidate == self.start), None)
        if start is self.chosen:
            return ["That is as configured.", *told]
        if start is not None and start not in self.ranking[1:2]:
            told.append(f"As configured ({start.candidate}): {self._compared(start)}.")
        elif start is not None:
            told.append("The runner-up is what was configured.")
        return told

    def _compared(self, point: ServingPoint) -> str:
        text = _figures(point)
        if not point.keeps_to(self.search.p99_budget_ms):
            return f"{text}, which is over the budget"
        return f"{text}, {_percent(1 - point.throughput / self.chosen.throughput)} less"

    def _noise(self) -> list[str]:
        compared = [point for point in self.ranking[:2] if point.visits > 1]
        if not compared:
            return ["Each was visited once, so the noise is not known."]
        noise = max(point.spread for point in compared)
        text = (
            f"Noise: the throughputs of one candidate differed by up to {_percent(noise)} between its "
            f"{compared[0].visits} visits, of which the medians count"
        )
        if len(self.ranking) > 1 and self.met:
            lead = 1 - self.ranking[1].throughput / self.chosen.throughput
            over = not self.ranking[1].keeps_to(self.search.p99_budget_ms)
            if not over:
                told_apart = "more than that" if lead > noise else "less than that: they can't be told apart for sure"
                text += f"; the lead over the runner-up is {told_apart}"
        return [f"{text}."]


def _figures(point: ServingPoint) -> str:
    load = f"{point.concurrency} at a time"
    load += f", {_percent(point.refused)} refused" if point.refused else ""
    return f"{point.throughput:,.0f} inferences/s at a p99 of {point.p99_ms:.1f} ms ({load})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
