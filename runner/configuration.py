"""One experiment as it is configured."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deployment_toolkit.core import Accelerator, DeviceKind, Format, Mnemonic, Precision
from deployment_toolkit.errors import UsageError

_RELEASE = r"\d\d\.\d\d"


class TritonLaunchMode(Mnemonic):
    """Where the server runs: the one that comes with the requirements, without Docker; one in a container; or one that
    somebody else has started."""

    EMBEDDED = "embedded"
    DOCKER = "docker"
    REMOTE = "remote"


@dataclass(frozen=True)
class Parameters:
    """What distinguishes one experiment from another."""

    export_format: Format
    export_precision: Precision
    format: Format
    precision: Precision
    max_batch_size: int
    number_of_model_instances: int
    checkpoint: str
    device_kind: DeviceKind = DeviceKind.CPU
    backend_accelerator: Accelerator = Accelerator.NONE
    tensorrt_capture_cuda_graph: bool = False
    torch_jit: str = "none"

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "number_of_model_instances"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Configuration:
    """One experiment. Where its server runs, and its container, if these are others than the run's: what serves
    TensorFlow natively is older than what serves the other formats safely."""

    checkpoint: str
    parameters: Parameters
    triton_launch_mode: TritonLaunchMode | None = None
    container_version: str | None = None
    triton_container_image: str | None = None

    def __post_init__(self) -> None:
        require_release(self.container_version)


def require_release(container_version: str | None) -> None:
    """Raises UsageError if it is not the name of a release of NVIDIA's containers."""
    if container_version and not re.fullmatch(_RELEASE, container_version):
        raise UsageError(f"container_version {container_version} is no release: give year and month, as '25.02'")
