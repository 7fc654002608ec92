"""Runs that end early: by a closed terminal, a reader that goes away, a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from runner.killed_runs import MARK, clear_killed_runs, marked_as_running
from runner.workspace import create_workspace
from tests.runner.conftest import experiment, states, task, wait_for_stage

Plain = dict[str, Any]
Start = Callable[[Plain], subprocess.Popen[str]]
END_S = 60
QUICK = {"configurations": [experiment(export_format="onnx")]}


def test_killed_run_is_cleared_by_the_next_start_which_a_closed_terminal_ends(
    finished_run: tuple[Path, str],
    small_config: Plain,
    start_runner: Start,
    workspace_root: Path,
    tmp_path: Path,
    nothing_left: None,
) -> None:
    latest = (workspace_root / "runs" / "latest").resolve()
    kept = {path: path.read_bytes() for path in finished_run[0].rglob("*") if path.is_file()}
    process = start_runner(small_config | QUICK)
    killed = wait_for_stage(workspace_root, latest, "correctness", process)
    assert (workspace_root / "model_store" / killed.name).exists()
    process.kill()
    process.communicate()
    command = _command(small_config | QUICK, workspace_root, tmp_path)
    master, slave = os.openpty()
    command = ["setsid", "--ctty", "env", "--default-signal=HUP", *command]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        run = wait_for_stage(workspace_root, killed, "export", process)
        os.close(master)  # the kernel sends SIGHUP; what is still printed fails
        assert process.wait(END_S) == 130
    _has_ended_well(run, workspace_root, "export")
    assert task(killed)["killed"] is True and task(killed)["finished"] is None
    assert states(killed, 1)["correctness"] == "killed" and states(killed, 1)["deploy"] == "ok"
    assert not (workspace_root / "model_store" / killed.name).exists()
    assert not (workspace_root / "shared_dir" / killed.name).exists()
    assert not list(killed.glob(".*")), "neither its mark nor the space that it kept back"
    assert {path: path.read_bytes() for path in finished_run[0].rglob("*") if path.is_file()} == kept


def test_run_whose_reader_goes_away_ends_as_after_ctrl_c(
    finished_run: tuple[Path, str], small_config: Plain, workspace_root: Path, tmp_path: Path, nothing_left: None
) -> None:
    earlier = (workspace_root / "runs" / "latest").resolve()
    command = _command(small_config | QUICK, workspace_root, tmp_path)
    with (
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        subprocess.Popen(["head", "-n3"], stdin=process.stdout, stdout=subprocess.PIPE, text=True) as head,
    ):
        assert process.stdout is not None and process.stderr is not None and head.stdout is not None
        process.stdout.close()  # only head reads it
        assert len(head.stdout.read().splitlines()) == 3
        told = process.stderr.read()
        assert process.wait(END_S) == 130, told
    run = (workspace_root / "runs" / "latest").resolve()
    assert run != earlier
    assert told.splitlines()[-1] == "interrupted" and "Traceback" not in told
    _has_ended_well(run, workspace_root)


def _has_ended_well(run: Path, workspace_root: Path, interrupted: str | None = None) -> None:
    assert "The run was interrupted" in (run / "report.md").read_text()
    assert task(run)["interrupted"] is True and task(run)["finished"] is not None
    assert interrupted is None or states(run, 1)[interrupted] == "interrupted"
    assert (workspace_root / "model_store" / run.name).exists(), "it can be resumed until the next start"
    assert json.loads((run / MARK).read_text())["stopped"] is True


def _command(config: Plain, workspace_root: Path, folder: Path) -> list[str]:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return [sys.executable, "-m", "runner", "--config-path", str(path), "--workspace-path", str(workspace_root)]


def test_only_runs_whose_process_is_gone_are_cleared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "runner")
    alive, gone, kept, elsewhere, stopped, resumed = (create_workspace(tmp_path) for _ in range(6))
    for workspace in (alive, gone, kept, elsewhere, stopped, resumed):
        (workspace.root / "model_store" / workspace.run_name / "experiment_1").mkdir(parents=True)
    with marked_as_running(alive, keeps_models=False):
        mark = json.loads((alive.run / MARK).read_text())
        assert mark["pid"] == os.getpid()
        later = mark | {"start_ticks": mark["start_ticks"] - 1}  # a process that had this id before
        (gone.run / MARK).write_text(json.dumps(later))
        (kept.run / MARK).write_text(json.dumps(later | {"keeps_models": True}))
        (elsewhere.run / MARK).write_text(json.dumps(mark))  # this process has it, and its file system no locks
        for workspace in (stopped, resumed):
            with pytest.raises(KeyboardInterrupt), marked_as_running(workspace, keeps_models=False):
                raise KeyboardInterrupt
            mark_of_stopped = json.loads((workspace.run / MARK).read_text())
            (workspace.run / MARK).write_text(json.dumps(mark_of_stopped | {"start_ticks": later["start_ticks"]}))
        clear_killed_runs(tmp_path, resumed.run_name)
        left = {path.name for path in (tmp_path / "model_store").iterdir()}
        assert left == {alive.run_name, kept.run_name, elsewhere.run_name, resumed.run_name}
        marked = {path.parent.name for path in tmp_path.glob(f"runs/*/{MARK}") if not path.parent.is_symlink()}
        assert marked == {alive.run_name, elsewhere.run_name, resumed.run_name}
    assert not (alive.run / MARK).exists()
    assert f"run {gone.run_name} was killed: process {os.getpid()} is gone; its models are removed" in caplog.text
    assert f"run {stopped.run_name} was stopped and not resumed: its models are removed" in caplog.text
    with pytest.raises(KeyboardInterrupt), marked_as_running(kept, keeps_models=True):
        raise KeyboardInterrupt
    assert not (kept.run / MARK).exists(), "no start removes its models"
    (gone.run / MARK).write_text("{")
    clear_killed_runs(tmp_path)
    assert f"run {gone.run_name} was killed, and what it left can't be cleared: {gone.run / MARK} is damaged" in (
        caplog.text
    )
