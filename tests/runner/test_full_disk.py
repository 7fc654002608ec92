"""A disk that fills up during a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runner.pipeline
from runner.command import Shell
from runner.experiment import Experiment
from runner.stages.network import Stage
from runner.workspace import create_workspace
from tests.runner.conftest import experiment, run_here, states, task
from tests.small_disk import mounted

Plain = dict[str, Any]
CONFIG = 'name: "WidenDeep"\n' + "# a long line\n" * 1000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "32m") as folder:
        yield folder


def test_full_disk_leaves_whole_records(
    small_config: Plain, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deploy(item: Experiment, shell: Shell) -> None:
        folder = item.folders.model_store / "WidenDeep"
        folder.mkdir()
        (folder / "config.pbtxt").write_text(CONFIG)

    def fill(item: Experiment, shell: Shell) -> None:
        with (small_disk / "of another program").open("wb") as file:
            while True:
                file.write(os.urandom(4096))
                file.flush()

    stages = (Stage("deploy", deploy, needs_server=True), Stage("correctness", fill, needs_server=True))
    monkeypatch.setattr(runner.pipeline, "stages_of", lambda item: stages)
    monkeypatch.setattr(runner.pipeline, "_prepare", lambda *_, **__: True)
    workspace = create_workspace(small_disk / "workspace")
    config = small_config | {"configurations": [experiment()] * 2}
    code, printed = run_here(config, workspace, tmp_path)
    assert code == 1 and "No space left on device" in printed
    assert states(workspace.run, 1) == {"deploy": "ok", "correctness": "failed"}
    assert task(workspace.run)["finished"] is not None
    assert (workspace.run / "experiment_1" / "config.pbtxt").read_text() == CONFIG
    report = (workspace.run / "report.md").read_text()
    assert "Not everything passed" in report and report.rstrip().endswith("|") and "## Versions" in report
    assert not list(workspace.run.rglob(".*"))
