from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.results.left_out import LeftOut
from deployment_toolkit.results.performance import LATENCY_PARTS, LATENCY_STATISTICS, write_performance
from runner.config.run import load_config
from runner.experiment import Experiment
from runner.records import StageRecord, StageState
from runner.report.results import read_results
from runner.report.system_info import read_system_info
from runner.report.task import Task
from runner.report.time_budget import budget_note
from runner.workspace import create_workspace

Note = Callable[..., str]


@pytest.fixture
def note(small_config: dict[str, Any], tmp_path: Path) -> Note:
    """The sentences about a run with 10 minutes, an experiment and this record; ``left_out`` of its offline sweep, None
    where it was not measured."""

    def make(left_out: LeftOut | None, record: StageRecord, minutes: float | None = 10) -> str:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(small_config | {"time_budget_minutes": minutes}))
        config = load_config(path)
        experiment = Experiment.create(config, 1, create_workspace(tmp_path / "workspace"))
        if left_out is not None:
            table = experiment.folders.results / "triton_performance_offline.csv"
            times_us = dict.fromkeys((*LATENCY_PARTS, *LATENCY_STATISTICS), 12000.0)
            row = {"Batch": 1, "Concurrency": 1, "Inferences/Second": 1.0, "Settled": False, **times_us}
            write_performance(table, [row])
            left_out.write(table)
        task = Task(config, "a test", read_system_info(), datetime.now(UTC), records=[record])
        return budget_note(task, read_results(experiment, task.records))

    return make


def test_head_counts_what_was_left_out(note: Note) -> None:
    quick, slow = (StageRecord("correctness", 1, StageState.OK, seconds=seconds) for seconds in (60, 900))
    left_out = LeftOut(4, ((8, 1), (16, 1), (64, 1)), ((1, 1),))
    counted = "The time budget of 10 minutes left out 3 of 4 points and repeats of 1 point that did not settle"
    assert note(left_out, quick) == f"{counted} (experiment 1; `--time-budget-minutes` gives more)."
    assert " never shortened took 15.0 minutes, more than the budget, so a sweep" in note(left_out, slow)
    slow.uncounted_s = 600
    assert "never shortened" not in note(left_out, slow), "an image was built meanwhile"
    assert note(LeftOut(1), quick) == "The time budget of 10 minutes left nothing out."


def test_run_without_a_budget_or_a_measurement_says_nothing_of_it(note: Note) -> None:
    record = StageRecord("correctness", 1, StageState.INTERRUPTED, seconds=900)
    assert note(None, record) == ""
    assert note(LeftOut(1), record, minutes=None) == ""
