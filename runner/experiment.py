"""Experiment of a run: one configuration in its stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import Batching, DeviceKind
from deployment_toolkit.library.model_files import SUFFIXES
from deployment_toolkit.triton_server.remote import TritonServer
from runner.config.capacity import CapacityConfig
from runner.config.experiment import Parameters
from runner.config.hosting import fitted_here, missing_here
from runner.config.parts import Correctness, ModelNames, Sweeps
from runner.config.run import RunConfig
from runner.config.search import Search
from runner.config.servers import ServerConfig
from runner.networks.network import DeployedNetwork
from runner.networks.registry import network_of
from runner.workspace import ExperimentFolders, Workspace


@dataclass
class Experiment:
    """One configuration in its stages, and the parts of the run's configuration that they need.

    ``configured`` are its parameters before a search, which changes ``parameters``; ``search`` is None if it is not
    searched, ``capacity`` if that is not measured. ``fitted`` says how ``configured`` differ from the run's
    configuration, and why; empty if they don't. ``devices`` are the GPUs that a server started by the run sees.
    ``server`` is set from the deploy stage on, ``sweep_s`` before each stage that measures: the seconds that it may
    take, None for no limit. ``keeps_points``: what an earlier part of the run has measured is kept.
    """

    number: int
    names: ModelNames
    network: DeployedNetwork
    configured: Parameters
    parameters: Parameters
    batching: Batching
    server_config: ServerConfig
    correctness: Correctness
    sweeps: Sweeps
    search: Search | None
    workspace: Workspace
    folders: ExperimentFolders
    capacity: CapacityConfig | None = None
    devices: tuple[int, ...] = ()
    server: TritonServer | None = None
    sweep_s: float | None = None
    fitted: str = ""
    keeps_points: bool = False

    @classmethod
    def create(cls, config: RunConfig, number: int, workspace: Workspace, devices: Sequence[int] = ()) -> Experiment:
        """Makes experiment ``number`` of a run, with its folders. For a server that somebody else has started, the
        models are in its repository."""
        asked = config.configurations[number - 1].parameters
        parameters = fitted_here(asked)
        folders, server = workspace.experiment(number), config.server_config(number)
        if server.model_repository is not None:
            folders = dataclasses.replace(folders, model_store=server.model_repository.resolve())
        return cls(
            number=number,
            names=config.names,
            network=network_of(config),
            configured=parameters,
            parameters=parameters,
            batching=config.batching,
            server_config=server,
            correctness=config.correctness,
            sweeps=config.sweeps,
            search=config.search if config.searches(number) else None,
            workspace=workspace,
            folders=folders,
            capacity=config.capacity,
            devices=tuple(devices) if parameters.device_kind is DeviceKind.GPU else (),
            fitted="" if parameters == asked else _difference(asked, parameters),
        )

    @property
    def server_log(self) -> Path:
        """Log of a server started by the run."""
        return self.workspace.logs / f"experiment_{self.number}_tritonserver.log"

    @property
    def exported(self) -> Path:
        """Path of the exported model, with its format's suffix."""
        return self.folders.exported.with_suffix(SUFFIXES.get(self.parameters.export_format, ""))

    @property
    def checkpoint_dir(self) -> Path:
        """Folder of its checkpoint."""
        return self.workspace.checkpoint(self.parameters.checkpoint)

    @property
    def running_server(self) -> TritonServer:
        """The running server."""
        assert self.server is not None, "the deploy stage starts the server"
        return self.server


def _difference(asked: Parameters, parameters: Parameters) -> str:
    made = f"{parameters.format} {parameters.precision}"
    return f"{made} in place of {asked.format} {asked.precision}: {missing_here(asked)}"
