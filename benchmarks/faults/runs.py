"""Whole runs of the runner, killed or told to end in any stage; the next start clears away what a killed one left."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import yaml

from benchmarks.faults.episode import Outcome, Setting
from benchmarks.faults.files import make_once
from benchmarks.faults.left_behind import shared_memory, unused_shared_memory, wait_for_ends
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.process import child

_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGHUP)
_LONGEST_S = 900.0
_END_S = 60.0
_STATE = "running"
_CHECKPOINT = "widedeep"
_CONFIG = """
model_name: WidenDeep
framework: TensorFlow2
datasets_dir: {datasets}
datasets: [{{name: outbrain}}]
checkpoints: [{{name: {checkpoint}}}]
configurations:
- checkpoint: {checkpoint}
  parameters:
    checkpoint: {checkpoint}
    export_format: tf-savedmodel
    export_precision: fp32
    format: onnx
    precision: fp32
    device_kind: cpu
    max_batch_size: 256
    number_of_model_instances: 1
    preferred_batch_sizes: [64]
batching: dynamic
triton_load_model_method: explicit
performance_tool: perf_analyzer
correctness: {{one_at_a_time: false}}
measurement: {{retries: 0, window_ms: 200}}
measurement_steps_offline: 1
measurement_steps_online: 1
"""


def run(setting: Setting, number: int, random: np.random.Generator, outcome: Outcome) -> None:
    """A run of one small experiment; every other one is killed, the others get a signal, at a random moment. The first
    one goes to its end."""
    workspace = _workspace(setting)
    chosen = _SIGNALS[(number - 1) % len(_SIGNALS)]
    undisturbed = not (workspace / "runs").exists()
    known = set(_runs(workspace))
    before = shared_memory()
    # The campaign itself may have been started with nohup.
    command: list[str | Path] = ["env", "--default-signal=HUP", sys.executable, "-m", "runner"]
    command += ["--config-path", workspace / "config.yaml", "--workspace-path", workspace]
    begun = time.monotonic()
    log = setting.folder / f"run_{number}.log"
    with child(command, env={**setting.environment, "PYTHONPATH": str(ROOT)}, stdout=log) as process:
        if undisturbed:
            code = process.wait(_LONGEST_S)
            (workspace / "seconds").write_text(str(time.monotonic() - begun))
            outcome.subject = "to its end"
            outcome.add("others", int(code != 0), f"exit code {code}: {_end(log)}")
        else:
            at_s = float(random.uniform(0, float((workspace / "seconds").read_text())))
            ended = process.wait(at_s)
            outcome.subject = f"{chosen.name}, {_stage(workspace, known)}"
            if ended is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, chosen)
                outcome.add("kills", int(chosen is signal.SIGKILL))
            code = process.wait(_END_S)
            outcome.add("others", int(code is None), f"it still runs {_END_S:g} s after {chosen.name}")
            by_signal = (-chosen, 128 + chosen)  # of a process that has not begun its run: nothing is there to clear
            began = bool(set(_runs(workspace)) - known)
            allowed = by_signal if chosen is signal.SIGKILL else (130,) if began else (130, *by_signal)
            wrong = ended is None and code is not None and code not in allowed
            outcome.add("others", int(wrong), f"exit code {code} after {chosen.name}: {_end(log)}")
    left = [*wait_for_ends(setting.environment, 20), *unused_shared_memory(before)]
    outcome.add("left_behind", len(left), f"left: {left}")
    new = sorted(set(_runs(workspace)) - known)
    _check_files(workspace, new, outcome, graceful=undisturbed or chosen is not signal.SIGKILL, to_its_end=undisturbed)
    _check_earlier(workspace, sorted(known), new, outcome)


def _workspace(setting: Setting) -> Path:
    """The workspace of all runs of this call, with the small data and checkpoint of the steps that write files."""
    workspace = setting.folder / "workspace"
    if not workspace.exists():
        made = make_once(setting)
        checkpoint = workspace / "checkpoints" / _CHECKPOINT / "checkpoint"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.symlink_to(made.base / "checkpoint")
        (workspace / "datasets").mkdir()
        (workspace / "datasets" / "outbrain").symlink_to(made.base / "data")
        config = _CONFIG.format(datasets=workspace / "datasets", checkpoint=_CHECKPOINT)
        (workspace / "config.yaml").write_text(config)
    return workspace


def _check_files(workspace: Path, new: list[str], outcome: Outcome, *, graceful: bool, to_its_end: bool) -> None:
    """Records of the run that has just ended are whole; after an end in order it is not said to run any more. The
    models of one that came to its end are gone; those of any other stay until the next start, so that it can go on."""
    for name in new:
        task, report = workspace / "runs" / name / "task.yaml", workspace / "runs" / name / "report.md"
        text = task.read_text() if task.exists() else ""
        try:
            record = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            outcome.add("bad_files", 1, f"task.yaml: {error}")
            continue
        if graceful and text:
            states = [stage["state"] for stage in record.get("stages", [])]
            outcome.add("others", int(_STATE in states), f"{name} is said to run after its end")
            outcome.add("bad_files", int(not report.exists()), "report.md is missing")
        if report.exists():
            whole = report.read_text()
            outcome.add("bad_files", int(not whole.startswith("#") or not whole.endswith("\n")), "report.md is cut off")
        if to_its_end:
            outcome.add("left_behind", len(_models(workspace, name)), f"models of {name} are left")


def _check_earlier(workspace: Path, known: list[str], new: list[str], outcome: Outcome) -> None:
    """If this run got as far as its first record, it has cleared the earlier ones."""
    if not any((workspace / "runs" / name / "task.yaml").exists() for name in new):
        return
    for name in known:
        task = workspace / "runs" / name / "task.yaml"
        stages = (yaml.safe_load(task.read_text()) if task.exists() else {}).get("stages", [])
        said = any(stage["state"] == _STATE for stage in stages)
        outcome.add("others", int(said), f"{name} was killed and is still said to run")
        outcome.add("left_behind", len(_models(workspace, name)), f"models of the earlier run {name} are left")


def _runs(workspace: Path) -> list[str]:
    return [one.name for one in (workspace / "runs").glob("*") if not one.is_symlink()]


def _models(workspace: Path, name: str) -> list[str]:
    return [kind for kind in ("shared_dir", "model_store") if (workspace / kind / name).exists()]


def _stage(workspace: Path, known: set[str]) -> str:
    """Stage that the new run is in."""
    for name in set(_runs(workspace)) - known:
        with contextlib.suppress(OSError, yaml.YAMLError):
            stages = (yaml.safe_load((workspace / "runs" / name / "task.yaml").read_text()) or {}).get("stages", [])
            return next((str(one["name"]) for one in stages if one["state"] == _STATE), "between stages")
    return "start"


def _end(log: Path) -> str:
    return " ".join(log.read_text(errors="replace")[-300:].split()) if log.exists() else ""
