from __future__ import annotations

from pathlib import Path

import pytest

from deployment_toolkit.errors import UsageError
from runner.workspace import create_workspace


def test_runs_have_separate_folders_and_latest_is_the_newest(tmp_path: Path) -> None:
    runs = []
    for _ in range(3):  # within one second
        workspace = create_workspace(tmp_path)
        folders = workspace.experiment(1)
        (folders.results / "correctness.csv").write_text(workspace.run_name)
        (folders.model_store / "model").touch()
        runs.append(workspace)
        assert (tmp_path / "runs" / "latest").resolve() == workspace.run
    assert len({workspace.run for workspace in runs}) == 3
    runs[1].remove_models()
    for workspace in runs:
        assert (workspace.run / "experiment_1" / "correctness.csv").read_text() == workspace.run_name
        kept = workspace is not runs[1]
        assert (tmp_path / "model_store" / workspace.run_name).exists() == kept


def test_workspace_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"workspace .*file can't be written: .*choose --workspace-path"):
        create_workspace(tmp_path / "file")
