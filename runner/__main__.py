"""Runs every experiment of a configuration on this host and writes a report."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.files import require_free_space
from deployment_toolkit.params import add_dataclass, from_args, make_parser, option, run_entry_point
from runner.config import Config, load_config
from runner.launch import require_launchable
from runner.pipeline import run_pipeline
from runner.workspace import create_workspace

logger = logging.getLogger("runner")

ROOT = Path(__file__).resolve().parent.parent
MODEL_BYTES = 370 * 2**20  # the full-size network as a file


@dataclass(frozen=True)
class RunnerOptions:
    """Options of the command."""

    config_path: Path = option("configuration (YAML)")
    devices: list[int] = option("GPUs to use; a CPU run takes 0", [0], aliases=("--device",), type=int, nargs="+")
    workspace_path: Path = option("folder of checkpoints, models and results", Path("runner_workspace"))
    keep_models: bool = option("keep this run's models and dumps", False)


def main(argv: list[str]) -> int:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, RunnerOptions)
    options = from_args(RunnerOptions, parser.parse_args(argv))
    config = load_config(options.config_path)
    require_launchable(config, options.devices)
    require_free_space(options.workspace_path, _needed_bytes(config), "this run")
    workspace = create_workspace(options.workspace_path)
    signal.signal(signal.SIGTERM, _interrupt)
    command = shlex.join(["python", "-m", "runner", *(part.removeprefix(f"{ROOT}/") for part in argv)])
    logger.info("run %s, results in %s", workspace.run_name, workspace.run)
    return run_pipeline(
        config,
        workspace,
        command,
        _child_env(),
        sys.stdout,
        devices=options.devices,
        keep_models=options.keep_models,
    )


def _needed_bytes(config: Config) -> int:
    """Exported, converted and deployed model of each experiment, dumps, and the checkpoint."""
    return MODEL_BYTES * (3 * len(config.configurations) + 2)


def _child_env() -> dict[str, str]:
    """The environment of the stages: this one, with the project's packages on the path and TensorFlow's C++ logs
    quiet."""
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part)
    return {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1", **os.environ, "PYTHONPATH": path}


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    run_entry_point(main)
