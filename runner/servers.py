"""Server of an experiment, by its launch mode."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial

from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.core import DeviceKind
from deployment_toolkit.errors import DeploymentError, DeviceError, UsageError
from deployment_toolkit.hardware import require_gpu
from deployment_toolkit.triton_server.attached import attached_server
from deployment_toolkit.triton_server.docker import built_image, docker_server
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from deployment_toolkit.triton_server.starting import early_end
from runner.config.experiment import ExperimentConfig, TritonLaunchMode
from runner.config.run import RunConfig
from runner.config.servers import ServerConfig
from runner.experiment import Experiment

_END_S = 2.0
_POLL_S = 0.05


def require_launchable(config: RunConfig, devices: Sequence[int], numbers: Sequence[int] = ()) -> None:
    """Raises an error, before anything is made, if the servers of the experiments ``numbers``, by default of all, can't
    be launched: DeviceError without the GPUs, UsageError for ``devices`` that no server of this run can use,
    ContainerError without an engine or an image, ServerError if a server that somebody else has started does not
    answer or has a model of this name already."""
    numbers = numbers or config.experiment_numbers
    chosen = [config.configurations[number - 1] for number in numbers]
    _require_devices([item for item in chosen if config.launch_mode_of(item) is not TritonLaunchMode.REMOTE], devices)
    modes = {config.launch_mode_of(item) for item in chosen}
    for server in map(config.server_config, numbers):
        if server.mode is TritonLaunchMode.REMOTE:  # one for all of them
            with _attached(server, config.names.served):
                break
    if TritonLaunchMode.DOCKER in modes:
        images = [
            config.triton_image(item) for item in chosen if config.launch_mode_of(item) is TritonLaunchMode.DOCKER
        ]
        with ContainerEngine.connect() as engine:  # all images, so that a wrong name isn't found only after an hour
            for name in dict.fromkeys(images):
                engine.require_image(name or _built_image(config, engine))


def server_for(experiment: Experiment) -> AbstractContextManager[TritonServer]:
    """Context manager whose server is ready inside the block. A server that it starts is ended after the block; a
    server that somebody else has started goes on without the experiment's models."""
    config = experiment.server_config
    if config.mode is TritonLaunchMode.REMOTE:
        return _attached(config, experiment.names.served)
    launch = _in_container(config) if config.mode is TritonLaunchMode.DOCKER else local_server
    return launch(
        experiment.folders.model_store,
        log_path=experiment.server_log,
        http_port=config.http_port,
        grpc_port=config.grpc_port,
        load_method=config.load_method,
        devices=experiment.devices,
    )


def end_of_server(experiment: Experiment) -> str:
    """Sentence on the end of the experiment's server, with its last lines, if it has ended by itself; else empty."""
    server = experiment.server
    if server is None or server.log_path is None or server.is_ready():
        return ""
    deadline = time.monotonic() + _END_S
    with contextlib.suppress(DeploymentError):  # a container engine that is gone too
        while (code := server.poll()) is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)  # it may be writing a core dump
        return "" if code is None else early_end(code, server.log_path)
    return ""


def _in_container(config: ServerConfig) -> Callable[..., AbstractContextManager[TritonServer]]:
    """Partial ``docker_server`` with the container's settings; its image was found or built before the run."""
    assert config.image is not None, "it is served in a container"
    return partial(docker_server, image=config.image, custom_operations=config.custom_operations)


def _attached(config: ServerConfig, models: Sequence[str]) -> AbstractContextManager[TritonServer]:
    assert config.http_url and config.grpc_url and config.model_repository, "the configuration was checked"
    return attached_server(
        config.model_repository,
        http_url=config.access.url(config.http_url),
        grpc_url=config.access.url(config.grpc_url),
        models=models,
    )


def _require_devices(configurations: Sequence[ExperimentConfig], devices: Sequence[int]) -> None:
    if any(item.parameters.device_kind is DeviceKind.GPU for item in configurations):
        names = require_gpu("this configuration (device_kind gpu)")
        missing = [device for device in devices if not 0 <= device < len(names)]
        if missing:
            raise DeviceError(f"--devices {missing[0]}: this machine's GPUs are 0 to {len(names) - 1} ({names[0]})")
    elif list(devices) != [0]:
        raise UsageError(f"--devices {list(devices)}: this configuration runs on the CPU, give 0 or leave it out")


def _built_image(config: RunConfig, engine: ContainerEngine) -> str:
    """Name of the image of the run's Dockerfile, built if something changed."""
    assert config.dockerfile is not None, "the configuration was checked"
    return built_image(engine, config.dockerfile, config.from_image_name)
