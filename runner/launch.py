"""The server of an experiment, by the launch mode of the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial

from deployment_toolkit.containers import ContainerEngine
from deployment_toolkit.core import DeviceKind
from deployment_toolkit.errors import DeviceError, UsageError
from deployment_toolkit.gpu import require_gpu
from deployment_toolkit.triton_server.docker import built_image, docker_server
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from runner.config import Config, Configuration
from runner.experiment import Experiment
from runner.launch_checks import TritonLaunchMode


def require_launchable(config: Config, devices: Sequence[int]) -> None:
    """Raises, before anything is made, if this machine can't run the configuration's servers: DeviceError without the
    GPUs, UsageError for ``devices`` that the launch mode can't use, ContainerError without an engine or an image."""
    if any(item.parameters.device_kind is DeviceKind.GPU for item in config.configurations):
        names = require_gpu("this configuration (device_kind gpu)")
        missing = [device for device in devices if device >= len(names)]
        if missing:
            raise DeviceError(f"--devices {missing[0]}: this machine's GPUs are 0 to {len(names) - 1} ({names[0]})")
    elif list(devices) != [0]:
        raise UsageError(f"--devices {list(devices)}: this configuration runs on the CPU, give 0 or leave it out")
    if config.launch_mode is TritonLaunchMode.DOCKER:
        _require_containers(config)


def server_for(experiment: Experiment) -> AbstractContextManager[TritonServer]:
    """A context manager whose server is ready inside the block and gone after it."""
    config = experiment.config
    docker = config.launch_mode is TritonLaunchMode.DOCKER
    launch = _in_container(experiment) if docker else local_server
    return launch(
        experiment.folders.model_store,
        log_path=experiment.workspace.logs / f"experiment_{experiment.number}_tritonserver.log",
        http_port=config.http_port,
        grpc_port=config.grpc_port,
        load_method=config.triton_load_model_method,
    )


def _in_container(experiment: Experiment) -> Callable[..., AbstractContextManager[TritonServer]]:
    """``docker_server`` with what the experiment says of its container."""
    config = experiment.config
    gpu = experiment.parameters.device_kind is DeviceKind.GPU
    with ContainerEngine.connect() as engine:
        image = _image(config, config.configurations[experiment.number - 1], engine)
    return partial(
        docker_server,
        image=image,
        devices=experiment.devices if gpu else (),
        custom_operations=config.triton_custom_operations,
    )


def _require_containers(config: Config) -> None:
    """Gets all images, so that a wrong name isn't found out after an hour."""
    if os.getuid() == 0:
        raise UsageError(
            "triton_launch_mode docker: the server's container never runs as root, so it couldn't open the shared "
            "memory that root's offline measurements pass tensors through; start the runner as an ordinary user who "
            "may use Docker"
        )
    with ContainerEngine.connect() as engine:
        for configuration in config.configurations:
            engine.require_image(_image(config, configuration, engine))


def _image(config: Config, configuration: Configuration, engine: ContainerEngine) -> str:
    """The name of the image that serves a configuration, built if the run has a Dockerfile for it."""
    named = config.triton_image(configuration)
    if named is not None:
        return named
    assert config.triton_dockerfile is not None, "the configuration was checked"
    return built_image(engine, config.triton_dockerfile)
