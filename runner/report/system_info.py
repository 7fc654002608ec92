"""Host and software versions of a run, as the provenance of its figures."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from deployment_toolkit.hardware import gpu_descriptions
from deployment_toolkit.machine import usable_cores
from deployment_toolkit.packages import installed_versions
from deployment_toolkit.triton_performance_runner.program import program_version

PACKAGES = (
    "tensorflow-cpu",
    "tf-keras",
    "onnxruntime",
    "onnxruntime-gpu",  # replaces onnxruntime after scripts/install.sh --gpu
    "openvino",
    "onnx",
    "tf2onnx",
    "nvidia-pytriton",
    "tritonclient",
    "nvtabular",
    "dask",
    "pandas",
    "numpy",
    "pyarrow",
)


@dataclass(frozen=True)
class SystemInfo:
    """A host. ``load_average`` is the value of the last minute when the run began; ``gpus`` are name, memory and driver
    of each GPU."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str
    load_average: float
    packages: dict[str, str] = field(default_factory=dict)
    gpus: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """Line for the head of a report."""
        host = f"{self.cpu}, {self.cores} cores, {self.memory_gib:.0f} GiB, {self.system}"
        return "; GPU ".join([host, *self.gpus])

    def to_dict(self) -> dict[str, Any]:
        """Plain YAML types of the host."""
        return asdict(self)


def read_system_info() -> SystemInfo:
    """Reads the description of this host."""
    return SystemInfo(
        cpu=_cpu_name(),
        cores=usable_cores(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{_distribution()}, Linux {platform.release()}",
        python=platform.python_version(),
        load_average=round(psutil.getloadavg()[0], 2),
        packages=installed_versions(PACKAGES) | program_version(),
        gpus=gpu_descriptions(),
    )


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _distribution() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
