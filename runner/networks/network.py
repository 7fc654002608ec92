"""The interface of a network to the stages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Format
from deployment_toolkit.files.mounts import mount_points
from deployment_toolkit.files.scratch import entries
from runner.command import Command


@dataclass(frozen=True)
class PreparationStage:
    """A stage that makes ``product``; it is left out if the product is there already. ``command`` is made after the
    stages before it have run. ``advice`` is shown before the stage runs: how a user can provide the product instead."""

    name: str
    product: Path
    command: Callable[[], Command]
    advice: str = ""

    @property
    def is_done(self) -> bool:
        """True if the product is there."""
        return is_there(self.product)


@dataclass(frozen=True)
class DeployedNetwork(ABC):
    """Three plug-ins and a data set. ``valid_pattern`` and ``train_pattern`` are the data files for the gate and the
    measurements, and those for training and calibration."""

    model: Path
    dataloader: Path
    metrics: Path
    valid_pattern: str
    train_pattern: str

    def model_arguments(self, checkpoint_dir: Path, precision: str) -> list[object]:
        """Arguments with which a script loads the checkpoint as a Keras model."""
        start: list[object] = ["--input-path", self.model, "--input-type", Format.TF_KERAS]
        return [*start, "--checkpoint-dir", checkpoint_dir, "--precision", precision, *self.model_options()]

    def row_arguments(self, batch_size: int, pattern: str | None = None) -> list[object]:
        """Arguments with which a script reads the validation data, or other files with the same columns."""
        start: list[object] = ["--dataloader", self.dataloader, "--data-pattern", pattern or self.valid_pattern]
        return [*start, "--batch-size", batch_size, *self.dataloader_options()]

    def metrics_arguments(self) -> list[object]:
        """Arguments with which a script computes the metrics of dumps."""
        return ["--metrics", self.metrics, *self.metrics_options()]

    def metrics_options(self) -> list[object]:
        """Further arguments of ``metrics``."""
        return []

    @abstractmethod
    def model_options(self) -> list[object]:
        """Further arguments of ``model``."""

    @abstractmethod
    def dataloader_options(self) -> list[object]:
        """Further arguments of ``dataloader``, once the data set is there."""

    @abstractmethod
    def data_stages(self) -> list[PreparationStage]:
        """Stages that make the data set."""

    @abstractmethod
    def training_stage(self, checkpoint: str, folder: Path) -> PreparationStage:
        """The stage that trains a checkpoint into ``folder``."""


def is_there(path: Path) -> bool:
    """True for what is there, except an empty folder that is a mount point or behind a link: it waits for content."""
    waits = path.is_dir() and (path.is_symlink() or path.resolve() in mount_points()) and not entries(path)
    return path.exists() and not waits


def relative(path: Path) -> str:
    """A path as the report shows it: from the project's root if it is inside."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
