"""bf16 and int8 in a run: conversion, correctness, and CPUs without the instructions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import runner.config.hosting
import runner.pipeline
from deployment_toolkit.core import Precision
from runner.stages.network import STAGES
from runner.workspace import create_workspace
from tests.runner.conftest import experiment, run_here, states

Plain = dict[str, Any]


def _mock_missing(precision: Precision) -> str:
    return f"this mock CPU has no instructions for {precision}"


def test_precision_that_the_cpu_lacks_is_skipped(
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
