"""bf16 and int8 in a run: conversion, correctness, and CPUs without the instructions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import runner.config.hosting
import runner.pipeline
from deployment_toolkit.core import Precision
from deployment_toolkit.hardware import missing_instructions
from runner.stages.network import STAGES
from runner.workspace import create_workspace
from tests.runner.conftest import experiment, rows, run_here, states

Plain = dict[str, Any]


def _mock_missing(precision: Precision) -> str:
    return f"this mock CPU has no instructions for {precision}"


def test_precision_that_the_cpu_lacks_is_skipped(
    finished_run: tuple[Path, str],
    small_config: Plain,
    workspace_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner.config.hosting, "missing_instructions", _mock_missing)
    workspace = create_workspace(workspace_root)
    entries = [experiment(format="openvino", precision=precision) for precision in ("bf16", "int8")]
    code, printed = run_here(small_config | {"configurations": entries}, workspace, tmp_path)
    assert code == 0
    report = (workspace.run / "report.md").read_text()
    for number, precision in enumerate(("bf16", "int8"), 1):
        assert states(workspace.run, number) == {stage.name: "skipped" for stage in STAGES}
        reason = f"this mock CPU has no instructions for {precision}"
        assert reason in printed
        assert f"experiment {number}, export, convert, deploy, " in report
        assert reason in report
        assert not list(workspace.experiment(number).results.iterdir()), "there is nothing to repeat"
        assert f"(experiment_{number})" not in report
    (line,) = (line for line in printed.splitlines() if line.startswith("result "))
    assert line.split() == ["result", "skipped", "skipped"]


def test_int8_is_converted_compared_by_metrics_and_reported(
    finished_run: tuple[Path, str],
    small_config: Plain,
    workspace_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    nothing_left: None,
) -> None:
    if missing_instructions(Precision.INT8):
        pytest.skip(missing_instructions(Precision.INT8))
    monkeypatch.setattr(runner.pipeline, "stages_of", lambda _: STAGES[:4])  # to the gate
    workspace = create_workspace(workspace_root)
    # A small network on few rows loses more by chance than the full-size one.
    limits = {"reduced_precision_max_metric_loss": 0.02}
    config = small_config | {"correctness": limits}
    config["configurations"] = [experiment(format="openvino", precision="int8")]
    code, printed = run_here(config, workspace, tmp_path)
    assert code == 0, printed
    table = rows(workspace.run / "experiment_1" / "correctness.csv")
    assert len(table) == 5
    assert {row["tolerance"] for row in table} == {"0.1 + 0 * |reference|"}
    assert all(row["passed"] == "True" and row["map12_difference"] and row["roc_auc_difference"] for row in table)
    assert max(float(row["max_abs_diff"]) for row in table) > 1e-5
    report = (workspace.run / "report.md").read_text()
    assert "Converted: openvino-opset13-int8: " in report
    assert "hidden layers in int8" in report
    for line in ("MAP@12 framework", "MAP@12 served", "ROC AUC framework", "ROC AUC served"):
        assert line in printed
    replay = (workspace.run / "experiment_1" / "replay.sh").read_text()
    assert "--calibration-data-pattern" in replay
    assert "train/*.parquet" in replay
    assert "--max-metric-loss map12=0.02 --max-metric-loss roc_auc=0.02" in replay
