"""What a run needs before its experiments: a data set and its checkpoints, made where they are missing."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runner.config import Config
from runner.stages import ROOT, Command, hidden_unit_options, spec_options
from runner.workspace import Workspace

logger = logging.getLogger("runner")


@dataclass(frozen=True)
class PreparationStage:
    """A stage that is left out where its ``product`` is there. ``command`` is made when the stages before it are
    done."""

    name: str
    product: Path
    command: Callable[[], Command]


def preparation_stages(config: Config, workspace: Workspace) -> list[PreparationStage]:
    """Raw data, preprocessed data, and each checkpoint."""
    dataset = config.dataset_dir
    raw = dataset.with_name(f"{dataset.name}_raw")
    valid = dataset / "valid"
    spec: list[object] = [] if config.feature_spec is None else ["--feature-spec", config.feature_spec]
    demo = ("--displays", config.demo_data.displays, "--seed", config.demo_data.seed)
    stages = [
        PreparationStage(
            "demo data",
            valid if valid.exists() else raw,
            lambda: _module("demo_data", "widedeep.synthetic", "--output-dir", raw, *demo),
        ),
        PreparationStage(
            "preprocessing",
            valid,
            lambda: _module(
                "preprocessing", "widedeep.preprocessing", "--raw-dir", raw, "--output-dir", dataset, *spec
            ),
        ),
    ]
    for checkpoint in config.checkpoints:
        folder = workspace.checkpoint(checkpoint.name)
        stages.append(PreparationStage("training", folder, partial(_training, config, checkpoint.name, folder)))
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


def relative(path: Path) -> str:
    """A path as a reader of the report knows it: from the project's root where it lies inside."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def _training(config: Config, name: str, folder: Path) -> Command:
    return _module(
        f"training_{name}",
        "widedeep.training",
        *("--data-dir", config.dataset_dir, "--checkpoint-dir", folder),
        *("--epochs", config.training.epochs, "--batch-size", config.training.batch_size),
        *spec_options(config),
        *hidden_unit_options(config),
    )


def _module(name: str, module: str, *options: object) -> Command:
    return Command(name, (sys.executable, "-m", module, *map(str, options)))
