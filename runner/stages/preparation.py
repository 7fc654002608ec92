"""Preparation of a run: a data set and its checkpoints, made where they are missing."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError
from runner.config.parts import Checkpoint
from runner.config.run import RunConfig
from runner.experiment import Command
from runner.stages.network import hidden_unit_options, spec_options
from runner.workspace import Workspace
from widedeep.data.dataset_folder import DatasetFolder
from widedeep.features.source_spec import TRAIN

logger = logging.getLogger("runner")


@dataclass(frozen=True)
class PreparationStage:
    """A stage that is left out where its ``product`` is there. ``command`` is made when the stages before it are
    done; ``advice`` tells, where it is run, what else could be put there."""

    name: str
    product: Path
    command: Callable[[], Command]
    advice: str = ""


def preparation_stages(config: RunConfig, workspace: Workspace) -> list[PreparationStage]:
    """Raw data, preprocessed data, for an ensemble the rows before preprocessing, and each checkpoint: downloaded if
    the configuration has its URL, else trained."""
    dataset = config.dataset_dir
    raw = dataset.with_name(f"{dataset.name}_raw")
    valid = dataset / "valid"
    given = (("--feature-spec", config.feature_spec), ("--embedding-sizes", config.embedding_sizes))
    spec = [part for option, path in given if path is not None for part in (option, path)]
    demo = ("--displays", config.demo_data.displays, "--seed", config.demo_data.seed)
    stages = [
        PreparationStage(
            "demo data",
            valid if valid.exists() else raw,
            lambda: _module("demo_data", "widedeep.synthetic", "--output-dir", raw, *demo),
            f"no data: neither {relative(dataset)} nor {relative(raw)} is there, so demo data is generated. For the "
            f"Outbrain data unzip Kaggle's files into {relative(raw)}",
        ),
        PreparationStage(
            "preprocessing",
            valid,
            lambda: _module(
                "preprocessing", "widedeep.preprocessing", "--raw-dir", raw, "--output-dir", dataset, *spec
            ),
        ),
    ]
    if config.ensemble_model_name is not None:
        rows = config.raw_rows_dir
        command = partial(_module, "raw_rows", "widedeep.raw_rows", "--raw-dir", raw, "--output-dir", rows)
        stages.append(PreparationStage("raw rows", rows, command))
    for checkpoint in config.checkpoints:
        folder = workspace.checkpoint(checkpoint.name)
        name, make = ("download", _download) if checkpoint.url else ("training", _training)
        advice = "" if checkpoint.url else _instead_of_training(config, folder)
        stages.append(PreparationStage(name, folder, partial(make, config, checkpoint, folder), advice))
    return stages


@contextlib.contextmanager
def preparation_lock(config: RunConfig) -> Iterator[None]:
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


def _instead_of_training(config: RunConfig, folder: Path) -> str:
    return (
        f"no checkpoint: {relative(folder)} is not there and the configuration has no url, so one is trained on "
        f"{relative(config.dataset_dir)} (as scripts/train.sh does). To use yours, copy it there or give its url"
    )


def _download(config: RunConfig, checkpoint: Checkpoint, folder: Path) -> Command:
    checksum: tuple[object, ...] = ("--sha256", checkpoint.sha256) if checkpoint.sha256 else ()
    options = ("--url", checkpoint.url, "--checkpoint-dir", folder, *checksum)
    return _module(f"download_{checkpoint.name}", "runner.checkpoint_download", *options)


def _training(config: RunConfig, checkpoint: Checkpoint, folder: Path) -> Command:
    patterns = DatasetFolder(config.dataset_dir).patterns(TRAIN)
    if not any(glob.glob(pattern) for pattern in patterns):  # noqa: PTH207 - may be absolute
        raise DataError(
            f"checkpoint {checkpoint.name} is missing and there is no data to train one on ({', '.join(patterns)}): "
            f"copy one to {folder}, give its url in the configuration, or preprocess the raw data (scripts/preproc.sh)"
        )
    return _module(
        f"training_{checkpoint.name}",
        "widedeep.training",
        *("--data-dir", config.dataset_dir, "--checkpoint-dir", folder),
        *("--epochs", config.training.epochs, "--batch-size", config.training.batch_size),
        *spec_options(config),
        *hidden_unit_options(config),
    )


def _module(name: str, module: str, *options: object) -> Command:
    return Command(name, (sys.executable, "-m", module, *map(str, options)))
