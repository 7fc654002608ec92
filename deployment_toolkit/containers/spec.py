"""Settings of a container: image, command, mounted folders, devices, user and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployment_toolkit.containers.gpu_access import GpuAccess
from deployment_toolkit.machine import LOOPBACK

LABEL = "wide-deep-deployment"
_STACK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class ContainerSpec:
    """A container of ``image`` that runs ``command`` as ``user`` (``uid:gid``).

    Files and folders of this host have the same paths inside; the container can change those in ``writable``.
    ``ports`` maps a port of the container to a loopback port of this host, None for any free one; without ports there
    is no network. ``gpus`` are indices. ``host_ipc`` shares this host's /dev/shm. The container has no capabilities and
    can't gain any.
    """

    image: str
    command: tuple[str, ...]
    user: str
    read_only: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[int, int | None] = field(default_factory=dict)
    gpus: tuple[int, ...] = ()
    host_ipc: bool = False
    workdir: Path | None = None

    def to_api(self, gpu_access: GpuAccess = GpuAccess.DEVICE_REQUESTS) -> dict[str, Any]:
        """Body of the Docker Engine API's ``POST /containers/create``."""
        environment = dict(self.environment)
        host: dict[str, Any] = {
            "Mounts": [
                {"Type": "bind", "Source": str(path), "Target": str(path), "ReadOnly": path not in self.writable}
                for path in sorted({*self.read_only, *self.writable})
            ],
            "PortBindings": {
                f"{inside}/tcp": [{"HostIp": LOOPBACK, "HostPort": "" if outside is None else str(outside)}]
                for inside, outside in self.ports.items()
            },
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "IpcMode": "host" if self.host_ipc else "private",
        }
        if not self.ports:
            host["NetworkMode"] = "none"
        if self.gpus:
            host |= gpu_access.host_config(self.gpus)
            environment |= gpu_access.environment(self.gpus)
            # CUDA pins memory; NVIDIA recommends both limits.
            host["Ulimits"] = [
                {"Name": "memlock", "Soft": -1, "Hard": -1},
                {"Name": "stack", "Soft": _STACK_BYTES, "Hard": _STACK_BYTES},
            ]
        return {
            "Image": self.image,
            "Cmd": list(self.command),
            "User": self.user,
            "Env": [f"{name}={value}" for name, value in environment.items()],
            "WorkingDir": "" if self.workdir is None else str(self.workdir),
            "ExposedPorts": {f"{port}/tcp": {} for port in self.ports},
            "Labels": {LABEL: ""},
            "HostConfig": host,
        }
