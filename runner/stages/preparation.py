"""Preparation of a run: a data set and its checkpoints, made where they are missing."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from deployment_toolkit.files.locks import hold_lock, open_lock_file
from deployment_toolkit.redaction import shown_url
from runner.command import Command, module_command
from runner.config.parts import Checkpoint
from runner.config.run import RunConfig
from runner.networks.network import PreparationStage
from runner.networks.registry import network_of
from runner.workspace import Workspace

logger = logging.getLogger("runner")

_URL_VARIABLE = "CHECKPOINT_URL"


def preparation_stages(config: RunConfig, workspace: Workspace) -> list[PreparationStage]:
    """The network's data, and each checkpoint: downloaded if the configuration has its URL, else trained."""
    network = network_of(config)
    stages = network.data_stages()
    for checkpoint in config.checkpoints:
        folder = workspace.checkpoint(checkpoint.name)
        if checkpoint.url:
            stages.append(PreparationStage("download", folder, partial(_download, checkpoint, folder)))
        else:
            stages.append(network.training_stage(checkpoint.name, folder))
    return stages


@contextlib.contextmanager
def preparation_lock(config: RunConfig) -> Iterator[None]:
    """Held while data and checkpoints are made, so that two runs make them once. In a folder that can't be written, as
    a read-only mount, no run makes data, so there is no lock."""
    with contextlib.ExitStack() as stack:
        try:
            config.datasets_dir.mkdir(parents=True, exist_ok=True)
            file = open_lock_file(config.datasets_dir / ".preparation.lock")
        except OSError as error:
            logger.info("%s can't be written (%s): what is there is used", config.datasets_dir, error.strerror)
        else:
            stack.callback(os.close, file)
            hold_lock(file, lambda: logger.info("another run prepares %s: waiting for it", config.datasets_dir))
        yield


def _download(checkpoint: Checkpoint, folder: Path) -> Command:
    checksum: tuple[object, ...] = ("--sha256", checkpoint.sha256) if checkpoint.sha256 else ()
    assert checkpoint.url is not None, "else it is trained"
    secret = {} if shown_url(checkpoint.url) == checkpoint.url else {_URL_VARIABLE: checkpoint.url}
    source = ("--url-env", _URL_VARIABLE) if secret else ("--url", checkpoint.url)
    options = (*source, "--checkpoint-dir", folder, *checksum)
    command = module_command(f"download_{checkpoint.name}", "runner.checkpoint_download", *options)
    return dataclasses.replace(command, private=secret)
