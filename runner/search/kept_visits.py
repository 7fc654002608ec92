"""Visits that a search keeps, so that one that was stopped goes on. Beside the CSV of a visit lies a JSON file with the
rest of it, written when the visit is complete.

The walk of a search follows from its measurements and their times. So with these it asks for the same visits again, in
the same order, up to the one that was missing.
"""

from __future__ import annotations

import json
from pathlib import Path

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.files.texts import read_json
from deployment_toolkit.results.performance import read_performance
from runner.search.algorithm import Round
from runner.search.results import MeasuredCandidate
from runner.search.space import Candidate


def keep_visit(table: Path, visit: MeasuredCandidate, config_text: str) -> None:
    """Notes a complete visit beside its CSV; ``config_text`` is what it was deployed with."""
    cells = {name: "" if value is None else str(value) for name, value in visit.candidate.cells.items()}
    plain = {"candidate": cells, "round": visit.round, "final": visit.final, "seconds": visit.seconds}
    write_text(_beside(table), json.dumps({**plain, "config": config_text}, indent=1))


def kept_visit(table: Path, candidate: Candidate, asked: Round) -> tuple[MeasuredCandidate, str] | None:
    """The visit whose CSV is ``table``, and its configuration, if it was complete and is the one that is asked for."""
    note = _beside(table)
    if not (note.is_file() and table.is_file()):
        return None
    try:
        found = read_json(note)
        known = Candidate.of_cells(found["candidate"])
        visit = MeasuredCandidate(
            known, int(found["round"]), bool(found["final"]), tuple(read_performance(table)), float(found["seconds"])
        )
        config_text = str(found["config"])
    except (KeyError, TypeError, ValueError, DataError):
        return None  # it is visited again
    same = (visit.candidate, visit.round, visit.final) == (candidate, asked.number, asked.final)
    return (visit, config_text) if same else None


def _beside(table: Path) -> Path:
    return table.with_suffix(".json")
