"""A quick look at a run (``--quick``), its record, and the full run after it."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

import runner.config.hosting
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Precision
from deployment_toolkit.errors import UsageError
from runner.__main__ import main
from runner.config.run import RunConfig, load_config
from runner.networks.quick_look import quick_look
from runner.pipeline import run_pipeline
from runner.report.task import QUICK_LOOK
from runner.stages.preparation import preparation_stages
from runner.workspace import Workspace, create_workspace
from tests.runner.conftest import STAGES, experiment, rows, states, task

Plain = dict[str, Any]
QUICK_CHECKPOINT = "small_quick"


@pytest.fixture
def here(small_config: Plain) -> Plain:
    """A small configuration without a checkpoint, with three experiments."""
    onnx = experiment(export_format="onnx")
    return small_config | {
        "configurations": [experiment(format="tf-savedmodel", export_format="tf-savedmodel"), onnx, onnx],
        "quick": {"training_steps": 2, "experiments": [2]},
        "correctness": {"one_at_a_time": True},
        "measurement": {"retries": 3, "window_ms": 200},
        "search": {"experiments": [2]},
    }


def _load(plain: Plain, folder: Path) -> RunConfig:
    (folder / "config.yaml").write_text(yaml.safe_dump(plain))
    return load_config(folder / "config.yaml")


def _prepare(config: RunConfig, workspace: Workspace) -> dict[str, str]:
    """Prepares a run, whose only experiment is refused; the states of the preparation's stages."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    stream = io.StringIO()
    run_pipeline(config, workspace, "a test", env, stream, numbers=[1], refused={1: "a test"}, keep_models=False)
    return states(workspace.run, None)


def test_quick_look_says_so_and_the_full_run_uses_its_data_but_not_its_checkpoint(
    here: Plain, tmp_path: Path, capfd: pytest.CaptureFixture[str], nothing_left: None
) -> None:
    config, root = _load(here, tmp_path), tmp_path / "workspace"
    command = ["--config-path", str(tmp_path / "config.yaml"), "--workspace-path", str(root)]
    assert main([*command, "--quick"]) == 0
    printed = capfd.readouterr().out
    run = (root / "runs" / "latest").resolve()
    assert states(run, 2) == dict.fromkeys(STAGES, "ok"), "without a search"
    record = task(run)
    assert {stage["experiment"] for stage in record["stages"]} == {None, 2}
    assert len(record["quick"]) == 5 and record["quick"][0] == "Experiments: 2 of 3."
    assert record["config"]["measurement"] == {
        "request_count": 8,
        "stability_percentage": 10.0,
        "retries": 0,
        "window_ms": 200,
    }
    report = (run / "report.md").read_text()
    for text in (printed, report):
        assert (
            text.index(QUICK_LOOK)
            < text.index(f"{QUICK_CHECKPOINT}, trained for at most 2 steps")
            < text.index("export")
        )
    assert printed.count(QUICK_LOOK) == 2, "before and after the tables"
    assert "no checkpoint" not in printed, "nobody is asked to provide a quick look's"
    compared = [row["name"] for row in rows(run / "experiment_2" / "correctness.csv")]
    assert compared == ["framework", "grpc_async", "http_async"]
    offline, online = (rows(run / "experiment_2" / f"triton_performance_{mode}.csv") for mode in ("offline", "online"))
    points = [(row["Batch"], row["Concurrency"]) for row in (*offline, *online)]
    assert points == [("1", "1"), ("64", "1"), ("1", "128")]
    assert "ended after 2 of" in (run / "logs" / f"training_{QUICK_CHECKPOINT}.log.err").read_text()

    workspace = create_workspace(root)
    assert _prepare(config, workspace) == {"demo data": "reused", "preprocessing": "reused", "training": "ok"}
    assert "quick" not in task(workspace.run)
    assert QUICK_LOOK not in (workspace.run / "report.md").read_text()
    again = quick_look(config, [], workspace)
    assert again.config.checkpoints == config.checkpoints and "Checkpoint: the full run's." in again.changes
    assert all(stage.is_done for stage in preparation_stages(again.config, workspace))


def test_checkpoint_with_a_url_is_the_users(here: Plain, tmp_path: Path) -> None:
    checkpoints = [{"name": "small", "url": "file:///there.zip"}]
    look = quick_look(_load(here | {"checkpoints": checkpoints}, tmp_path), [], Workspace(tmp_path, ""))
    assert look.config.checkpoints[0].name == "small" and "Checkpoint: the full run's." in look.changes


@pytest.mark.parametrize(
    ("name", "missing", "numbers"),
    [
        ("CPU", (), [1, 5]),
        ("CPU", (Precision.BF16, Precision.INT8), [1, 5]),  # which onnxruntime serves then
        ("CPU-ensemble", (), [1]),
        ("NVIDIA-T4", (), [1, 2]),
    ],
)
def test_quick_look_takes_tensorflow_and_what_promises_most(
    name: str, missing: tuple[Precision, ...], numbers: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def mock_missing(precision: Precision) -> str:
        return "a mock CPU" if precision in missing else ""

    monkeypatch.setattr(runner.config.hosting, "missing_instructions", mock_missing)
    config = load_config(ROOT / "runner" / f"config_{name}.yaml")
    look = quick_look(config, [], Workspace(tmp_path, ""))
    assert look.numbers == numbers
    without = [item for item in config.configurations if item.parameters.precision is not Precision.INT8]
    if Precision.BF16 not in missing and len(without) < len(config.configurations):
        look = quick_look(dataclasses.replace(config, configurations=without), [], Workspace(tmp_path, ""))
        assert look.numbers == [1, 4], "bf16"
    assert quick_look(config, [1], Workspace(tmp_path, "")).numbers == [1], "--experiments"


def test_contradictions_are_told(here: Plain, tmp_path: Path) -> None:
    config = _load(here | {"quick": {"experiments": [4]}}, tmp_path)
    with pytest.raises(UsageError, match="quick: experiment 4 is not there, the configuration has 1 to 3"):
        quick_look(config, [], Workspace(tmp_path, ""))
    with pytest.raises(UsageError, match="--quick and --search: .* leave one of them out"):
        main(["--config-path", str(tmp_path / "config.yaml"), "--quick", "--search"])
