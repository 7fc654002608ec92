"""Experiment of a run: one configuration in its stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import DeviceKind
from deployment_toolkit.library.model_files import SUFFIXES
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_server.docker import built_image_name
from deployment_toolkit.triton_server.remote import TritonServer
from runner.config.experiment import ExperimentConfig, Parameters, TritonLaunchMode
from runner.config.run import RunConfig
from runner.networks.network import DeployedNetwork
from runner.networks.registry import network_of
from runner.workspace import ExperimentFolders, Workspace


@dataclass
class Experiment:
    """One configuration in its stages. ``server`` is set from the deploy stage on; ``devices`` are the run's GPUs."""

    number: int
    config: RunConfig
    parameters: Parameters
    workspace: Workspace
    folders: ExperimentFolders
    server: TritonServer | None = None
    devices: tuple[int, ...] = ()

    @classmethod
    def create(cls, config: RunConfig, number: int, workspace: Workspace, devices: Sequence[int]) -> Experiment:
        """Makes experiment ``number`` of a run, with its folders. For a server that somebody else has started, the
        models are in its repository."""
        configuration = config.configurations[number - 1]
        folders = workspace.experiment(number)
        if config.launch_mode_of(configuration) is TritonLaunchMode.REMOTE:
            assert config.triton_model_repository is not None, "the configuration was checked"
            folders = dataclasses.replace(folders, model_store=config.triton_model_repository.resolve())
        return cls(number, config, configuration.parameters, workspace, folders, devices=tuple(devices))

    @property
    def configuration(self) -> ExperimentConfig:
        """Entry of the experiment in the configuration of the run."""
        return self.config.configurations[self.number - 1]

    @property
    def launch_mode(self) -> TritonLaunchMode:
        """Launch mode of the experiment's server."""
        return self.config.launch_mode_of(self.configuration)

    @property
    def distant_server(self) -> ServerUrl | None:
        """Address of the experiment's server, if it is on another host."""
        url = self.config.grpc_server if self.launch_mode is TritonLaunchMode.REMOTE else None
        return None if url is None or url.is_loopback else url

    @property
    def server_image(self) -> str | None:
        """Name of the image of the server's container, without a request to the engine; None without a container."""
        if self.launch_mode is not TritonLaunchMode.DOCKER:
            return None
        image, dockerfile = self.config.triton_image(self.configuration), self.config.dockerfile
        if image is None:
            assert dockerfile is not None, "the configuration was checked"
            return built_image_name(dockerfile, self.config.from_image_name)
        return image

    @property
    def server_devices(self) -> tuple[int, ...]:
        """GPUs that a server started by the run sees."""
        return self.devices if self.parameters.device_kind is DeviceKind.GPU else ()

    @property
    def server_log(self) -> Path:
        """Log of a server started by the run."""
        return self.workspace.logs / f"experiment_{self.number}_tritonserver.log"

    @property
    def exported(self) -> Path:
        """Path of the exported model, with its format's suffix."""
        return self.folders.exported.with_suffix(SUFFIXES.get(self.parameters.export_format, ""))

    @property
    def network(self) -> DeployedNetwork:
        """The network that it deploys."""
        return network_of(self.config)

    @property
    def checkpoint_dir(self) -> Path:
        """Folder of its checkpoint."""
        return self.workspace.checkpoint(self.parameters.checkpoint)

    @property
    def running_server(self) -> TritonServer:
        """The running server."""
        assert self.server is not None, "the deploy stage starts the server"
        return self.server
