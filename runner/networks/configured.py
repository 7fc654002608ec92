"""A network that a configuration describes (key ``network``)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.patterns import below
from runner.command import Command, make_command
from runner.config.network import NetworkConfig, filled, option_arguments
from runner.networks.network import DeployedNetwork, PreparationStage, relative


@dataclass(frozen=True)
class ConfiguredNetwork(DeployedNetwork):
    """Plug-ins and commands of a configuration."""

    config: NetworkConfig
    dataset_dir: Path

    @classmethod
    def of(cls, config: NetworkConfig, dataset_dir: Path) -> ConfiguredNetwork:
        """The network of ``config`` on a data set."""
        valid, train = (below(dataset_dir, pattern) for pattern in (config.valid_data, config.train_data))
        return cls(config.model, config.dataloader, config.metrics, valid, train, config, dataset_dir)

    def model_options(self) -> list[object]:
        """The key ``model_options``."""
        return option_arguments(self.config.model_options)

    def dataloader_options(self) -> list[object]:
        """The key ``dataloader_options``."""
        return option_arguments(self.config.dataloader_options)

    def metrics_options(self) -> list[object]:
        """The key ``metrics_options``."""
        return option_arguments(self.config.metrics_options)

    def data_stages(self) -> list[PreparationStage]:
        """The command ``prepare_data``, whose product is the whole folder of the data set."""
        return [
            PreparationStage(
                "data",
                self.dataset_dir,
                self._command("data", "prepare_data", f"data set {self.dataset_dir}", dataset_dir=self.dataset_dir),
                f"no data: {relative(self.dataset_dir)} is not there, so it is made (prepare_data). To use yours, copy "
                "it there",
            )
        ]

    def training_stage(self, checkpoint: str, folder: Path) -> PreparationStage:
        """The command ``prepare_checkpoint``."""
        places = {"dataset_dir": self.dataset_dir, "checkpoint_dir": folder}
        return PreparationStage(
            "training",
            folder,
            self._command(f"training_{checkpoint}", "prepare_checkpoint", f"checkpoint {folder}", **places),
            f"no checkpoint: {relative(folder)} is not there and the configuration has no url, so one is made "
            "(prepare_checkpoint). To use yours, copy it there or give its url",
        )

    def _command(self, name: str, key: str, product: str, **places: Path) -> Callable[[], Command]:
        def make() -> Command:
            command = getattr(self.config, key)
            if command is None:
                raise DataError(f"{product} is missing: copy it there, or give the configuration network: {key}")
            return make_command(name, [sys.executable, *filled(command, places)])

        return make
