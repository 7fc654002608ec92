"""What the report says of a run's time budget."""

from __future__ import annotations

from collections.abc import Sequence

from runner.report.results import ExperimentResult
from runner.report.task import Task
from runner.stages.ensemble import ENSEMBLE_STAGES
from runner.stages.network import STAGES

_NOT_SHORTENED = {stage.name for stage in (*STAGES, *ENSEMBLE_STAGES) if not stage.measures}


def budget_note(task: Task, results: Sequence[ExperimentResult]) -> str:
    """What a run's time budget left out, in a sentence or two; empty if it has none, or nothing was measured."""
    minutes = task.config.time_budget_minutes
    if not minutes or not any(result.performance(mode) for result in results for mode in result.left_out):
        return ""
    left_out = _left_out(results)
    told = f"The time budget of {minutes:g} minutes left {left_out or 'nothing out'}."
    others = [record for record in task.records if record.experiment and record.name in _NOT_SHORTENED]
    others_s = sum(record.seconds - record.uncounted_s for record in others)
    if left_out and others_s > 60 * minutes:
        told += (
            f" The stages that are never shortened took {others_s / 60:.1f} minutes, more than the budget, so a sweep "
            "measured little more than its first point."
        )
    return told


def _left_out(results: Sequence[ExperimentResult]) -> str:
    found = [(result, mode, left_out) for result in results for mode, left_out in result.left_out.items()]
    asked = sum(left_out.asked or len(result.performance(mode)) for result, mode, left_out in found)
    points, repeats = (sum(len(getattr(left_out, kind)) for *_, left_out in found) for kind in ("points", "repeats"))
    told = [f"{points} of {asked} points"] if points else []
    told += [f"repeats of {repeats} point{'s' if repeats > 1 else ''} that did not settle"] if repeats else []
    numbers = sorted({result.experiment.number for result, _, left_out in found if left_out})
    where = f"experiment{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
    return f"out {' and '.join(told)} ({where}; `--time-budget-minutes` gives more)" if told else ""
