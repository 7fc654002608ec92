"""The server of an experiment, by the launch mode of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from deployment_toolkit.core import DeviceKind
from deployment_toolkit.errors import DeviceError, ServerError, UsageError
from deployment_toolkit.gpu import require_gpu
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from runner.config import Config
from runner.experiment import Experiment
from runner.launch_checks import TritonLaunchMode


def require_launchable(config: Config, devices: Sequence[int]) -> None:
    """Raises, before anything is made, if this machine can't run the configuration's servers: DeviceError without the
    GPUs, UsageError for ``devices`` that the launch mode can't use, ServerError without the means to start a server."""
    if any(item.parameters.device_kind is DeviceKind.GPU for item in config.configurations):
        names = require_gpu("this configuration (device_kind gpu)")
        missing = [device for device in devices if device >= len(names)]
        if missing:
            raise DeviceError(f"--devices {missing[0]}: this machine's GPUs are 0 to {len(names) - 1} ({names[0]})")
    elif list(devices) != [0]:
        raise UsageError(f"--devices {list(devices)}: this configuration runs on the CPU, give 0 or leave it out")
    if config.launch_mode is TritonLaunchMode.DOCKER:
        _refuse_containers(config)


def server_for(experiment: Experiment) -> AbstractContextManager[TritonServer]:
    """A context manager whose server is ready inside the block and gone after it."""
    if experiment.config.launch_mode is TritonLaunchMode.DOCKER:
        _refuse_containers(experiment.config)
    return local_server(
        experiment.folders.model_store,
        log_path=experiment.workspace.logs / f"experiment_{experiment.number}_tritonserver.log",
        http_port=experiment.config.http_port,
        grpc_port=experiment.config.grpc_port,
        load_method=experiment.config.triton_load_model_method,
    )


def _refuse_containers(config: Config) -> None:
    image = config.triton_image(config.configurations[0]) or config.triton_dockerfile
    raise ServerError(
        f"triton_launch_mode docker ({image}): the runner starts the embedded server only. Start the container with "
        "scripts/docker/triton_inference_server.sh and go step by step (README), or use a configuration for the CPU"
    )
