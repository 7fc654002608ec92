"""Measurements of candidates: their points, the frontier, and ``search.csv``, a row per visit and concurrency."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import DataError
from deployment_toolkit.results.performance import (
    CONCURRENCY,
    P99,
    THROUGHPUT,
    US_PER_MS,
    PerformanceRow,
    performance_cells,
    performance_row,
    refused_share,
)
from deployment_toolkit.results.tables import read_csv, write_csv
from runner.search.space import Candidate

SEARCH_TABLE = "search.csv"
FINAL = "final"
EXPLORING = "exploring"
_MOST_REFUSED = 0.01  # a refused request is a late one, and the 99th percentile is in time
_FLAGS = {True: "yes", False: "no"}


def write_search(path: Path, measured: Sequence[MeasuredCandidate], budget_ms: float, *, decided: bool) -> None:
    """Writes the visits, at least one, in the order of measurement; the file is replaced atomically. ``Frontier`` marks
    the points that no other point beats in both throughput and p99; ``Chosen``, if ``decided``, marks the rows of the
    chosen candidate."""
    best = {(point.candidate, point.concurrency) for point in frontier(points(measured))}
    chosen = best_finalists(measured, budget_ms)[0].candidate if decided else None
    rows = []
    for visit in measured:
        for row in visit.rows:
            rows.append(
                {
                    "Round": visit.round,
                    "Stage": FINAL if visit.final else EXPLORING,
                    **visit.candidate.cells,
                    **performance_cells(row),
                    "Within budget": _FLAGS[_keeps(row[P99] / US_PER_MS, refused_share(row), budget_ms)],
                    "Frontier": _FLAGS[(visit.candidate, row[CONCURRENCY]) in best],
                    "Chosen": _FLAGS[visit.candidate == chosen],
                }
            )
    write_csv(path, rows)


def read_search(path: Path) -> tuple[list[MeasuredCandidate], bool]:
    """Reads the visits, without their times, and True if the search made a choice. Raises DataError if the file can't
    be read."""
    visits: dict[tuple[int, Candidate], list[PerformanceRow]] = {}
    finals: dict[int, bool] = {}
    decided = False
    for number, line in enumerate(read_csv(path), start=2):
        try:
            candidate = Candidate.of_cells(line)
            visits.setdefault((int(line["Round"]), candidate), []).append(performance_row(line))
            finals[int(line["Round"])] = line["Stage"] == FINAL
            decided = decided or line["Chosen"] == _FLAGS[True]
        except (KeyError, ValueError, OverflowError) as error:
            raise DataError(f"{path}, line {number} is no result of a search ({error!r}): search again") from error
    made = [MeasuredCandidate(item, number, finals[number], tuple(rows)) for (number, item), rows in visits.items()]
    return made, decided


def chosen_in(path: Path) -> Candidate:
    """The candidate that a table of a search marks as chosen. Raises DataError if there is none."""
    for line in read_csv(path):
        if line.get("Chosen") == _FLAGS[True]:
            return Candidate.of_cells(line)
    raise DataError(f"{path} has no row that is chosen: search again")


@dataclass(frozen=True)
class MeasuredCandidate:
    """One visit of a candidate: a row per concurrency. ``final`` visits have the long windows; ``seconds`` is the
    time of the visit, with the deployment."""

    candidate: Candidate
    round: int
    final: bool
    rows: tuple[PerformanceRow, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class ServingPoint:
    """A candidate at a concurrency: medians over its visits. ``spread`` is the range of the throughputs over their
    median, 0 for a single visit; ``refused`` the share of the requests that the server refused."""

    candidate: Candidate
    concurrency: int
    throughput: float
    p99_ms: float
    visits: int
    spread: float
    refused: float = 0.0

    def keeps_to(self, budget_ms: float) -> bool:
        """True if the p99 is within the budget, and not more than 1 % of the requests were refused."""
        return _keeps(self.p99_ms, self.refused, budget_ms)

    def rank(self, budget_ms: float) -> tuple[bool, float]:
        """Sort key, larger is better: within the budget by throughput, else by nearness to the budget."""
        within = self.keeps_to(budget_ms)
        return within, self.throughput if within else -self.p99_ms


def points(measured: Iterable[MeasuredCandidate]) -> list[ServingPoint]:
    """Points of all candidates, in the order of their first visits. If a candidate has final visits, only these
    count."""
    by_candidate: dict[Candidate, list[MeasuredCandidate]] = {}
    for visit in measured:
        by_candidate.setdefault(visit.candidate, []).append(visit)
    found = []
    for candidate, visits in by_candidate.items():
        counted = [visit for visit in visits if visit.final] or visits
        rows = [row for visit in counted for row in visit.rows]
        for concurrency in dict.fromkeys(row[CONCURRENCY] for row in rows):
            found.append(_point(candidate, [row for row in rows if row[CONCURRENCY] == concurrency]))
    return found


def best_points(measured: Iterable[MeasuredCandidate], budget_ms: float) -> list[ServingPoint]:
    """Best point of each candidate over its concurrencies, the best candidate first."""
    best: dict[Candidate, ServingPoint] = {}
    for point in points(measured):
        known = best.get(point.candidate)
        if known is None or point.rank(budget_ms) > known.rank(budget_ms):
            best[point.candidate] = point
    return sorted(best.values(), key=by_rank(budget_ms), reverse=True)


def best_finalists(measured: Sequence[MeasuredCandidate], budget_ms: float) -> list[ServingPoint]:
    """The best points of the candidates that came to the final; without a final those of all."""
    finals = [visit for visit in measured if visit.final]
    return best_points(finals or measured, budget_ms)


def by_rank(budget_ms: float) -> Callable[[ServingPoint], tuple[bool, float]]:
    """Sort key of points for a budget."""
    return lambda point: point.rank(budget_ms)


def frontier(of: Sequence[ServingPoint]) -> list[ServingPoint]:
    """Points that no other point beats in both throughput and p99, by rising p99."""
    kept: list[ServingPoint] = []
    for point in sorted(of, key=lambda item: (item.p99_ms, -item.throughput)):
        if not kept or point.throughput > kept[-1].throughput:
            kept.append(point)
    return kept


def _keeps(p99_ms: float, refused: float, budget_ms: float) -> bool:
    return p99_ms <= budget_ms and refused <= _MOST_REFUSED


def _point(candidate: Candidate, rows: Sequence[PerformanceRow]) -> ServingPoint:
    rates = [row[THROUGHPUT] for row in rows]
    throughput = statistics.median(rates)
    return ServingPoint(
        candidate,
        rows[0][CONCURRENCY],
        throughput,
        statistics.median(row[P99] / US_PER_MS for row in rows),
        len(rows),
        (max(rates) - min(rates)) / throughput if throughput else 0.0,
        statistics.median(map(refused_share, rows)),
    )
