"""bf16 and int8 in a run: conversion, correctness, and CPUs without the instructions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import runner.config.hosting
from deployment_toolkit import hardware
from deployment_toolkit.core import Format, Precision
from runner.config.experiment import Parameters
from runner.config.hosting import fitted_here, is_reduced, missing_here
from runner.stages.network import STAGES
from runner.workspace import create_workspace
from tests.runner.conftest import experiment, run_here, states

Plain = dict[str, Any]
OPENVINO_INT8 = Parameters(
    Format.TF_SAVEDMODEL, Precision.FP32, Format.OPENVINO, Precision.INT8, 64, 1, checkpoint="small"
)


def _mock_missing(precision: Precision) -> str:
    return f"this mock CPU has no instructions for {precision}"


@pytest.fixture
def mock_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU without instructions for bf16 and int8, for the runner; its children see the real one."""
    monkeypatch.setattr(runner.config.hosting, "missing_instructions", _mock_missing)


def test_bf16_is_skipped_and_int8_is_onnxruntimes_where_the_cpu_lacks_them(
    small_config: Plain, workspace_root: Path, tmp_path: Path, mock_cpu: None
) -> None:
    workspace = create_workspace(workspace_root)
    entries = [experiment(format="openvino", precision=precision, host="cpp") for precision in ("bf16", "int8")]
    # the small network was trained for a moment, on a few rows
    correctness = small_config["correctness"] | {"reduced_precision_max_metric_loss": 0.05}
    config = small_config | {"configurations": entries, "correctness": correctness, "measurement_steps_online": 1}
    code, printed = run_here(config, workspace, tmp_path)
    assert code == 0, printed
    report = (workspace.run / "report.md").read_text()
    assert states(workspace.run, 1) == {stage.name: "skipped" for stage in STAGES}
    reason = "this mock CPU has no instructions for bf16"
    assert reason in printed
    assert (
        f"experiment 1, export, convert, deploy, correctness, performance offline, performance online: {reason}"
        in report
    )
    assert not list(workspace.experiment(1).results.iterdir()), "there is nothing to repeat"
    assert "(experiment_1)" not in report
    assert states(workspace.run, 2) == {stage.name: "ok" for stage in STAGES}
    choice = "onnx int8 in place of openvino int8: this mock CPU has no instructions for int8"
    assert f"experiment 2: {choice}" in printed
    assert "## Experiment 2: onnx int8\n" in report
    assert f"Chosen for this host: {choice}.\n" in report
    assert "Converted: onnx-opset13-int8: " in report
    assert "hidden layers in int8, " in report
    (line,) = (line for line in printed.splitlines() if line.startswith("result "))
    assert line.split() == ["result", "skipped", "ok"]


def test_int8_experiment_fits_the_host(mock_cpu: None) -> None:
    ours = dataclasses.replace(OPENVINO_INT8, host="cpp", threads=6, number_of_model_instances=2)
    assert is_reduced(ours)
    fitted = fitted_here(ours)
    assert (fitted.format, fitted.precision, fitted.host, fitted.threads) == ("onnx", "int8", "cpp", 6)
    assert is_reduced(fitted)
    assert missing_here(fitted) == ""
    assert fitted_here(fitted) == fitted
    bf16 = dataclasses.replace(ours, precision=Precision.BF16)
    assert fitted_here(bf16) == bf16
    assert missing_here(bf16) == "this mock CPU has no instructions for bf16"


def test_int8_stays_openvinos_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mock_cpuinfo").write_text("flags : avx2 avx512_vnni\n")
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "mock_cpuinfo")
    assert fitted_here(OPENVINO_INT8) == OPENVINO_INT8
    (tmp_path / "mock_cpuinfo").write_text("flags : avx2\n")
    assert fitted_here(OPENVINO_INT8).format is Format.ONNX
