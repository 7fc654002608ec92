"""Visits by Model Analyzer: it varies the settings itself, on a server that it starts, round by round.

It can't be told which combinations to leave out, so a round that is no full grid is several commands; and it visits
each variant once, in its own order, so the final, where candidates take turns, is measured as in any other search.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from deployment_toolkit.core import PerformanceTool
from deployment_toolkit.errors import ProcessError
from deployment_toolkit.results.performance import PERFORMANCE_COLUMNS, read_csv
from deployment_toolkit.triton_performance_runner.variant import combinations
from runner.experiment import Command, Step, make_command
from runner.search.algorithm import Round
from runner.search.results import MeasuredCandidate
from runner.search.space import Candidate
from runner.search.visits import LEFT_OUT, Visits, load_options
from runner.stages.network import deploy

_MODULE = "deployment_toolkit.triton_performance_runner.variant_sweep"


class AnalyzerVisits(Visits):
    """Measures exploring rounds with Model Analyzer, and the final as ``Visits`` does."""

    def measure(self, asked: Round) -> Generator[Step, None, list[MeasuredCandidate]]:
        """The commands that measure a round, as of ``Visits``."""
        if asked.final:
            return (yield from super().measure(asked))
        if self.count == 0:
            yield from deploy(self.experiment)  # Model Analyzer serves what is in the repository
        answer: list[MeasuredCandidate] = []
        for grid in _grids(asked.candidates):
            yield self.tell(grid[0], len(answer))
            if len(grid) > 1:
                yield f"  with Model Analyzer, and {len(grid) - 1} more like it"
            self.count += 1
            table, started = self.folder / f"{self.count:02}.csv", time.monotonic()
            try:
                yield self._command(grid, table)
            except ProcessError as error:
                yield LEFT_OUT.format(", ".join(map(str, grid)), error)
            visits = _read(table, asked) if table.is_file() else []
            seconds = (time.monotonic() - started) / max(1, len(visits))
            for visit in visits:
                answer.append(dataclasses.replace(visit, seconds=seconds))
                self.found(answer[-1], None)
        return answer

    def _command(self, grid: Sequence[Candidate], table: Path) -> Command:
        counts, threads, sizes, delays = (
            list(dict.fromkeys(values)) for values in zip(*map(dataclasses.astuple, grid), strict=True)
        )
        argv = [
            *(sys.executable, "-m", _MODULE),
            *load_options(self.experiment, self.search, PerformanceTool.MODEL_ANALYZER, final=False),
            *("--instances", *counts, *([] if None in threads else ["--threads", *threads])),
            *("--preferred-batch-sizes", *(size for group in sizes for size in group)),
            *("--max-queue-delays-us", *delays, "--result-path", table),
        ]
        return make_command(f"search_{self.count:02}_model_analyzer", argv)


def _grids(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """The candidates in parts that are full grids of single preferred sizes."""
    single = all(len(item.preferred_batch_sizes) == 1 for item in candidates)
    if len(candidates) == 1 or (single and len(combinations(candidates)) == len(candidates)):
        return [list(candidates)]
    by_count = [[item for item in candidates if item.instances == count] for count in _counts(candidates)]
    if len(by_count) == 1:
        return [[item] for item in candidates]
    return [grid for part in by_count for grid in _grids(part)]


def _counts(candidates: Sequence[Candidate]) -> list[int]:
    return list(dict.fromkeys(item.instances for item in candidates))


def _read(table: Path, asked: Round) -> list[MeasuredCandidate]:
    """The variants of a table that are there with every concurrency, or as many as the first one has."""
    rows: dict[Candidate, list[dict[str, Any]]] = {}
    for line in read_csv(table):
        row = {column.name: column.parse(line[column.name]) for column in PERFORMANCE_COLUMNS}
        rows.setdefault(Candidate.of_cells(line), []).append(row)
    most = max(map(len, rows.values()), default=0)
    return [MeasuredCandidate(item, asked.number, False, tuple(of)) for item, of in rows.items() if len(of) == most]
