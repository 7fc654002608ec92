"""Which stages are kept, by what has changed since; no stage runs, their files are written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config.run import load_config
from runner.experiment import Experiment
from runner.pipeline import stages_of
from runner.records import StageRecord, StageState
from runner.resuming.kept_stages import KeptStages
from runner.resuming.ledger import RunLedger
from runner.resuming.plan import planned, results_of
from runner.workspace import Workspace, create_workspace
from tests.runner.conftest import STAGES, Plain, experiment

ALL = len(STAGES)


class _Run:
    """An experiment of a run whose stages are said to have run."""

    def __init__(self, config: Plain, folder: Path) -> None:
        self._config = config
        self._path = folder / "config.yaml"
        self.workspace: Workspace = create_workspace(folder / "workspace")
        RunLedger.begin(self.workspace.run, ["--config-path", str(self._path)])

    def begin(self, **changes: Any) -> KeptStages:
        """The next part of the run, with changed keys."""
        self._path.write_text(yaml.safe_dump(self._config | changes))
        self.made = Experiment.create(load_config(self._path), 1, self.workspace)
        self.kept = KeptStages(self.made, stages_of(self.made), RunLedger.read(self.workspace.run))
        return self.kept

    def run(self, count: int, content: str = "1") -> None:
        """Runs the first ``count`` stages."""
        folders = self.made.folders
        made = {
            "export": [self.made.exported],
            "convert": [folders.converted],
            "deploy": [folders.model_store / "WidenDeep" / name for name in ("config.pbtxt", "1/model")],
        }
        for stage in stages_of(self.made)[:count]:
            self.kept.begin(stage)
            for path in made.get(stage.name, results_of(self.made, planned(self.made, stage))):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("" if path.name == "config.pbtxt" else content)
            self.kept.end(stage, StageRecord(stage.name, 1, StageState.OK, 1.0))

    @property
    def results(self) -> Path:
        """Folder of the experiment's results."""
        return self.made.folders.results

    @property
    def names(self) -> list[str]:
        """Stages that are kept."""
        return [stage.name for stage in stages_of(self.made) if self.kept.record(stage) is not None]


@pytest.fixture
def run(small_config: Plain, tmp_path: Path) -> _Run:
    made = _Run(small_config | {"datasets_dir": str(tmp_path / "data")}, tmp_path)
    made.begin()
    assert made.names == []
    return made


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, STAGES),
        ({"configurations": [experiment(), experiment()]}, STAGES),
        ({"measurement_steps_online": 3}, ["export", "convert", "correctness", "performance offline"]),
        ({"measurement": {"window_ms": 300}}, ["export", "convert", "correctness"]),
        ({"configurations": [experiment(number_of_model_instances=2)]}, ["export", "convert"]),
        ({"correctness": {"atol": 0.5}}, ["export"]),
        ({"configurations": [experiment(export_format="onnx")]}, []),
    ],
)
def test_key_concerns_the_stages_whose_commands_it_changes(run: _Run, changes: Plain, kept: list[str]) -> None:
    run.run(ALL)
    run.begin(**changes)
    assert run.names == kept
    offline = Path("triton_performance_offline.csv")
    places = [(folder / offline).exists() for folder in (run.results, run.results / "earlier")]
    assert places == ([True, False] if "performance offline" in kept else [False, True])


def test_other_points_leave_those_that_were_measured(run: _Run) -> None:
    run.run(ALL)
    run.begin(measurement_steps_online=3)
    run.kept.begin(stages_of(run.made)[-1])
    assert run.made.keeps_points and (run.results / "triton_performance_online.csv").exists()


def test_models_are_needed_only_by_stages_that_run_again(run: _Run) -> None:
    run.run(ALL)
    run.workspace.remove_models()
    run.begin()
    assert run.names == STAGES, "an experiment that was complete needs none"
    (run.results / "triton_performance_online.csv").write_text("changed by hand")
    run.begin()
    assert run.names == []


def test_model_that_is_another_when_it_is_deployed_again_is_asked_again(run: _Run) -> None:
    run.run(ALL - 1)
    deploy = stages_of(run.made)[2]
    run.begin()
    assert run.names == ["export", "convert", "correctness", "performance offline"]
    run.kept.begin(deploy)  # and is killed
    run.begin()
    run.kept.begin(deploy)
    run.kept.end(deploy, StageRecord("deploy", 1, StageState.OK))
    assert run.names == ["export", "convert", "correctness", "performance offline"]
    run.begin()
    run.kept.begin(deploy)
    (run.made.folders.model_store / "WidenDeep" / "1" / "model").write_text("another")
    run.kept.end(deploy, StageRecord("deploy", 1, StageState.OK))
    assert run.names == ["export", "convert"]


def test_data_and_code_count(run: _Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.run(ALL)
    checkpoint = run.workspace.checkpoint("small")
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_text("new")
    run.begin()
    assert run.names == []
    run.run(ALL)
    run.begin()
    assert run.names == STAGES
    monkeypatch.setattr("runner.resuming.plan.code_digest", lambda programs: "another server")
    run.begin()
    assert run.names == ["export", "convert"]
