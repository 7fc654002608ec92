"""``search.csv``: every visit of every candidate with all performance columns, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deployment_toolkit.errors import DataError
from deployment_toolkit.results.performance import CONCURRENCY, PERFORMANCE_COLUMNS, read_csv
from deployment_toolkit.results.tables import write_csv
from runner.search.measured import Measured, best_points, frontier, points
from runner.search.space import Candidate

SEARCH_TABLE = "search.csv"
FINAL = "final"
EXPLORING = "exploring"
_FLAGS = {True: "yes", False: "no"}


def write_search(path: Path, measured: Sequence[Measured], budget_ms: float, *, decided: bool) -> None:
    """Writes at least one visit, in the order in which they were made; the file is replaced whole. ``Frontier`` marks
    the rows of points that no other one beats in both throughput and p99, ``Chosen``, once it is ``decided``, those of
    the chosen candidate."""
    best = {(point.candidate, point.concurrency) for point in frontier(points(measured))}
    chosen = choice(measured, budget_ms) if decided else None
    rows = []
    for visit in measured:
        for row in visit.rows:
            rows.append(
                {
                    "Round": visit.round,
                    "Stage": FINAL if visit.final else EXPLORING,
                    **visit.candidate.cells,
                    **{column.name: column.cell(row[column.name]) for column in PERFORMANCE_COLUMNS},
                    "Within budget": _FLAGS[row["p99 latency"] <= 1000 * budget_ms],
                    "Frontier": _FLAGS[(visit.candidate, row[CONCURRENCY]) in best],
                    "Chosen": _FLAGS[visit.candidate == chosen],
                }
            )
    write_csv(path, rows)


def read_search(path: Path) -> tuple[list[Measured], bool]:
    """The visits, without their times, and whether the search came to a choice. Raises DataError if the file can't be
    read."""
    visits: dict[tuple[int, Candidate], list[dict[str, Any]]] = {}
    finals: dict[int, bool] = {}
    decided = False
    for number, line in enumerate(read_csv(path), start=2):
        try:
            candidate = Candidate.of_cells(line)
            row = {column.name: column.parse(line[column.name]) for column in PERFORMANCE_COLUMNS}
            visits.setdefault((int(line["Round"]), candidate), []).append(row)
            finals[int(line["Round"])] = line["Stage"] == FINAL
            decided = decided or line["Chosen"] == _FLAGS[True]
        except (KeyError, ValueError) as error:
            raise DataError(f"{path}, line {number} is no result of a search ({error!r}): search again") from error
    made = [Measured(item, number, finals[number], tuple(rows)) for (number, item), rows in visits.items()]
    return made, decided


def choice(measured: Sequence[Measured], budget_ms: float) -> Candidate:
    """The best finalist; without a final the best of all."""
    finals = [visit for visit in measured if visit.final]
    return best_points(finals or measured, budget_ms)[0].candidate
