"""A forced failure in each stage: it is recorded and shown, the rest of its experiment is skipped, and other
experiments continue."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import runner.pipeline
from runner.__main__ import main
from runner.command import Shell
from runner.experiment import Experiment
from runner.stages.network import Stage
from runner.workspace import create_workspace
from tests.runner.conftest import STAGES, experiment, run_here, states, task

Plain = dict[str, Any]


def test_failed_stage_stops_its_experiment_only(
    small_config: Plain,
    workspace_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    nothing_left: None,
) -> None:
    workspace = create_workspace(workspace_root)
    (workspace.checkpoint("empty")).mkdir(parents=True, exist_ok=True)
    quick = experiment(export_format="onnx")  # which needs no conversion
    experiments = {
        "export": experiment(checkpoint="empty"),
        "convert": experiment(format="tf-trt"),
        "deploy": experiment(export_format="onnx", backend_accelerator="amp"),
        "correctness": quick,
        "performance offline": quick,
        "performance online": quick,
    }
    # Two experiments fail in their measurements. They take the model of the experiment before them, and need no stage
    # between deploy and that measurement.
    names = dict.fromkeys(range(1, 5), STAGES) | {5: STAGES[1:3] + STAGES[4:], 6: STAGES[1:3] + STAGES[5:]}
    all_stages = runner.pipeline.stages_of

    def copy_model(item: Experiment, shell: Shell) -> None:
        shutil.copyfile(workspace.experiment(4).converted, item.folders.converted)

    def short(item: Experiment) -> tuple[Stage, ...]:
        stages = tuple(stage for stage in all_stages(item) if stage.name in names[item.number])
        return stages if len(stages) == len(STAGES) else (Stage(stages[0].name, copy_model), *stages[1:])

    monkeypatch.setattr(runner.pipeline, "stages_of", short)
    blocked = {4: "correctness", 5: "triton_performance_offline", 6: "triton_performance_online"}
    for number, name in blocked.items():  # a folder where the stage writes its file
        (workspace.experiment(number).results / f"{name}.csv" / "taken").mkdir(parents=True)
    messages = {
        "export": "there is no checkpoint in",
        "convert": "tf-trt-fp32: ",
        "deploy": "accelerator amp belongs to a native backend",
        "correctness": "correctness.csv",
        "performance offline": "triton_performance_offline.csv",
        "performance online": "triton_performance_online.csv",
    }
    config = small_config | {
        "checkpoints": [*small_config["checkpoints"], {"name": "empty"}],
        "configurations": list(experiments.values()),
        "measurement_steps_online": 1,
    }
    code, printed = run_here(config, workspace, tmp_path)
    assert code == 1
    stages = {(stage["experiment"], stage["name"]): stage for stage in task(workspace.run)["stages"]}
    report = (workspace.run / "report.md").read_text()
    for number, failing in enumerate(experiments, 1):
        at = names[number].index(failing)
        expected = dict.fromkeys(names[number], "skipped") | dict.fromkeys(names[number][:at], "ok")
        expected[failing] = "failed"
        assert states(workspace.run, number) == expected
        stage = stages[number, failing]
        assert messages[failing] in stage["message"]
        assert stage["message"] in printed
        assert stage["message"] in report
        assert (workspace.run / stage["log"]).is_file()
    assert "Not everything passed" in report


def test_ctrl_c_between_stages_is_no_success(
    small_config: Plain,
    workspace_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner.pipeline, "_run_experiment", interrupt)
    workspace = create_workspace(workspace_root)
    with pytest.raises(KeyboardInterrupt):
        run_here(small_config, workspace, tmp_path)
    report = (workspace.run / "report.md").read_text()
    assert "The run was interrupted" in report
    assert "passed." not in report
    assert (workspace_root / "model_store" / workspace.run_name).exists(), "the run can go on"


@pytest.mark.parametrize("flags", [[], ["--keep-models"]])
def test_models_are_kept_by_option(
    small_config: Plain,
    workspace_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
) -> None:
    monkeypatch.setattr(runner.pipeline, "_run_experiment", lambda *_: None)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small_config))
    assert main(["--config-path", str(path), "--workspace-path", str(workspace_root), *flags]) == 0
    run = (workspace_root / "runs" / "latest").resolve().name
    assert (workspace_root / "model_store" / run).exists() == bool(flags)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("demo data", "outbrain_raw"),
        ("preprocessing", "events.csv"),
        ("training", "copy one to"),
    ],
)
def test_failed_preparation_skips_all_experiments(
    small_config: Plain, tmp_path: Path, stage: str, message: str, nothing_left: None
) -> None:
    datasets = tmp_path / "datasets"
    if stage == "demo data":
        datasets.mkdir()
        (datasets / "outbrain_raw").symlink_to(tmp_path / "nowhere" / "raw")
        (tmp_path / "nowhere").touch()
    elif stage == "preprocessing":
        (datasets / "outbrain_raw").mkdir(parents=True)
    else:
        (datasets / "outbrain" / "valid").mkdir(parents=True)
    workspace = create_workspace(tmp_path / "workspace")
    code, printed = run_here(small_config | {"datasets_dir": str(datasets)}, workspace, tmp_path)
    assert code == 1
    assert states(workspace.run, None)[stage] == "failed"
    assert set(states(workspace.run, 1).values()) == {"skipped"}
    assert message in printed


def test_devices_without_a_gpu_experiment_are_refused(small_config: Plain, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small_config))
    with pytest.raises(Exception, match="--devices"):
        main(["--config-path", str(path), "--device", "1", "--workspace-path", str(tmp_path)])
