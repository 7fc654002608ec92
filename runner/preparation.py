"""What a run needs before its experiments: a data set and its checkpoints, made where they are missing."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.config import Config
from runner.stages import Command
from runner.workspace import Workspace

logger = logging.getLogger("runner")


@dataclass(frozen=True)
class PreparationStage:
    """A stage that is left out where its ``product`` is there."""

    name: str
    product: Path
    command: Command


def preparation_stages(config: Config, workspace: Workspace) -> list[PreparationStage]:
    """Raw data, preprocessed data, and each checkpoint."""
    dataset = (config.datasets_dir / config.datasets[0].name).resolve()
    raw = dataset.with_name(f"{dataset.name}_raw")
    valid = dataset / "valid"
    demo = ("--displays", config.demo_data.displays, "--seed", config.demo_data.seed)
    stages = [
        PreparationStage(
            "demo data",
            valid if valid.exists() else raw,
            _module("demo_data", "widedeep.synthetic", "--output-dir", raw, *demo),
        ),
        PreparationStage(
            "preprocessing",
            valid,
            _module("preprocessing", "widedeep.preprocessing", "--raw-dir", raw, "--output-dir", dataset),
        ),
    ]
    for checkpoint in config.checkpoints:
        folder = workspace.checkpoint(checkpoint.name)
        options: list[object] = ["--data-dir", dataset, "--checkpoint-dir", folder]
        options += ["--epochs", config.training.epochs, "--batch-size", config.training.batch_size]
        if config.deep_hidden_units is not None:
            options += ["--deep-hidden-units", *config.deep_hidden_units]
        stages.append(
            PreparationStage("training", folder, _module(f"training_{checkpoint.name}", "widedeep.training", *options))
        )
    return stages


@contextlib.contextmanager
def preparation_lock(config: Config) -> Iterator[None]:
    """Held while data and checkpoints are made, so that two runs make them once."""
    config.datasets_dir.mkdir(parents=True, exist_ok=True)
    with (config.datasets_dir / ".preparation.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another run prepares %s: waiting for it", config.datasets_dir)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _module(name: str, module: str, *options: object) -> Command:
    return Command(name, (sys.executable, "-m", module, *map(str, options)))
