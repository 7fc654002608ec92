"""What a stage would run, without running it, and the origin of its results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import UsageError
from deployment_toolkit.sameness.code import code_digest
from deployment_toolkit.sameness.command import Origin, command_origin, without_options
from deployment_toolkit.triton_server.remote import TritonServer
from runner.command import Command
from runner.experiment import Experiment
from runner.stages.network import InOrder, Stage

_SERVING = ("python_host.py", "cpp_host/library.py", "triton_server/local.py", "triton_server/docker.py")
_POINTS = ("--batch-sizes", "--concurrency")
_OF_NO_RESULT = ("--resume", "--time-budget-s", "--capacity-seconds")


def planned(experiment: Experiment, stage: Stage, server: TritonServer | None = None) -> list[Command]:
    """Commands of a stage, on ``server`` or on one whose addresses are always the same. Raises UsageError for a stage
    that does not tell them."""
    told = server or TritonServer(
        http_url="http://127.0.0.1:1", grpc_url="grpc://127.0.0.1:2", metrics_url="http://127.0.0.1:3/metrics"
    )
    alike = dataclasses.replace(experiment, server=told)
    if stage.plan is not None:
        return list(stage.plan(alike))
    if isinstance(stage.run, InOrder):
        return list(stage.run.commands(alike))
    raise UsageError(f"stage {stage.name} doesn't tell its commands beforehand, so nothing of it can be kept")


def stage_origin(experiment: Experiment, stage: Stage, before: str) -> Origin:
    """Origin of a stage's results; ``before`` is that of the stages which made what it works on."""
    folders = experiment.folders
    own = [experiment.workspace.run, folders.shared, folders.model_store]
    commands = [command.argv for command in planned(experiment, stage)]
    parts = dict(command_origin(commands, without=_OF_NO_RESULT, own=own).parts)
    if stage.needs_server:
        config = experiment.server_config
        known = (
            config.mode,
            config.load_method,
            config.image,
            config.custom_operations,
            config.http_url,
            experiment.devices,
        )
        parts |= {"server": [str(part) for part in known], "serving code": _serving_code()}
    return Origin({**parts, "stages before": before})


def differs_in_points(origin: Origin, earlier: Mapping[str, Any]) -> bool:
    """True if all that an earlier origin of measurements lacks or has more than this one are points: these can be kept
    one by one."""
    if origin.changed(earlier) != ["options"]:
        return False
    now, before = origin.parts["options"], earlier.get("options", [])
    return [without_options(one, _POINTS) for one in now] == [without_options(one, _POINTS) for one in before]


def origin_digest(origin: Origin) -> str:
    """Short digest of an origin."""
    return hashlib.sha256(json.dumps(origin.parts, sort_keys=True).encode()).hexdigest()[:16]


def results_of(experiment: Experiment, commands: Sequence[Command]) -> list[Path]:
    """Files and folders among an experiment's results that commands name, sorted."""
    results = experiment.folders.results
    named = {Path(part) for command in commands for part in command.argv if part.startswith(f"{results}/")}
    return sorted(named)


def _serving_code() -> str:
    return code_digest(ROOT / "deployment_toolkit" / name for name in _SERVING)
