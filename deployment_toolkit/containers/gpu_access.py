"""Access of a container to GPUs, by what the engine supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from deployment_toolkit.errors import ContainerError

NO_DRIVER = "could not select device driver"  # Docker's message if NVIDIA's toolkit was missing when Docker started
_NVIDIA = "nvidia"
_PODMAN = "Podman Engine"
_FIRST_WITH_REQUESTS = (1, 40)  # Docker 19.03


class GpuAccess(Enum):
    """Way to request GPUs: like ``docker run --gpus``, or like ``--runtime=nvidia`` with NVIDIA_VISIBLE_DEVICES."""

    DEVICE_REQUESTS = "device requests"
    NVIDIA_RUNTIME = "runtime nvidia"

    def host_config(self, gpus: Sequence[int]) -> dict[str, Any]:
        """Entries for HostConfig in the Docker Engine API's ``POST /containers/create``."""
        if self is GpuAccess.NVIDIA_RUNTIME:
            return {"Runtime": _NVIDIA}
        ids = [str(index) for index in gpus]
        return {"DeviceRequests": [{"Driver": "", "DeviceIDs": ids, "Capabilities": [["gpu"]]}]}

    def environment(self, gpus: Sequence[int]) -> dict[str, str]:
        """Variables that the container's environment needs."""
        if self is GpuAccess.NVIDIA_RUNTIME:
            return {"NVIDIA_VISIBLE_DEVICES": ",".join(map(str, gpus))}
        return {}


def gpu_ways(version: Mapping[str, Any], info: Mapping[str, Any]) -> list[GpuAccess]:
    """Ways to request GPUs from an engine, in the order to try them.

    They follow from the engine's answers to ``GET /version`` and ``GET /info``. These don't say if the engine has a
    driver for device requests; only a request for GPUs shows it.

    Raises ContainerError if there is no way.
    """
    engine = f"{version.get('Version', '')} (API {version.get('ApiVersion', '')})"
    if any(part.get("Name") == _PODMAN for part in version.get("Components") or ()):
        raise ContainerError(
            f"podman {engine} starts containers without the GPUs that are requested through Docker's API: use "
            "Docker with the NVIDIA container toolkit"
        )
    ways = []
    if tuple(map(int, version["ApiVersion"].split("."))) >= _FIRST_WITH_REQUESTS:
        ways.append(GpuAccess.DEVICE_REQUESTS)
    if _NVIDIA in (info.get("Runtimes") or ()):
        ways.append(GpuAccess.NVIDIA_RUNTIME)
    if not ways:
        raise ContainerError(
            f"Docker {engine} has no runtime nvidia and is too old to give GPUs otherwise: install the NVIDIA "
            "container toolkit, or Docker 19.03 or later"
        )
    return ways
