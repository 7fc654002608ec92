"""The configuration of a run: one YAML, checked key by key before anything starts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from deployment_toolkit.core import (
    Accelerator,
    Batching,
    DeviceKind,
    Format,
    LoadMethod,
    Mnemonic,
    PerformanceTool,
    Precision,
)
from deployment_toolkit.errors import UsageError
from deployment_toolkit.mapping import from_mapping
from runner.launch_checks import TritonLaunchMode, container_keys, launch_problems

TRITON_IMAGE = "nvcr.io/nvidia/tritonserver:{}-py3"
_SCHEMES = ("https", "file", "http")


class Framework(Mnemonic):
    """What the checkpoints were trained with."""

    TENSORFLOW2 = "TensorFlow2"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint by its folder under ``checkpoints/``; one that is not there is downloaded from ``url`` (https or
    file; a zip or tar archive, of this SHA-256 if given), or without one trained from the data set."""

    name: str
    url: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.url and urlsplit(self.url).scheme not in _SCHEMES:
            raise UsageError(f"url {self.url} of checkpoint {self.name} must start with {' or '.join(_SCHEMES)}:")
        if self.sha256 and not re.fullmatch("[0-9a-fA-F]{64}", self.sha256):
            raise UsageError(f"sha256 of checkpoint {self.name} must be 64 hexadecimal digits, as sha256sum prints")
        if self.sha256 and not self.url:
            raise UsageError(f"sha256 of checkpoint {self.name} belongs to a url: add it, or leave sha256 out")


@dataclass(frozen=True)
class Dataset:
    """A data set by its folder under ``datasets_dir``."""

    name: str


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
    """One experiment. Its container, where it needs another than the run's: what serves TensorFlow natively is older
    than what serves the other formats safely."""

    checkpoint: str
    parameters: Parameters
    container_version: str | None = None
    triton_container_image: str | None = None


@dataclass(frozen=True)
class DemoData:
    """The data set that is generated where ``datasets_dir`` has none."""

    displays: int = 40_000
    seed: int = 1


@dataclass(frozen=True)
class Training:
    """The demo checkpoint that is trained where ``checkpoints/`` has none."""

    epochs: int = 2
    batch_size: int = 1024


@dataclass(frozen=True)
class Correctness:
    """When the deployed model counts as the framework's: ``|a - b| <= atol + rtol * |b|`` in every row, and MAP@12
    within ``max_map_loss``."""

    atol: float = 1e-5
    rtol: float = 1e-4
    max_map_loss: float = 1e-4
    batch_size: int = 4096


@dataclass(frozen=True)
class Measurement:
    """How a point is measured: three windows of ``request_count`` requests (a second at least); it settled if they
    differ by at most ``stability_percentage``, else it is repeated up to ``retries`` times, each twice as long."""

    request_count: int = 17
    stability_percentage: float = 10.0
    retries: int = 1


@dataclass(frozen=True)
class Config:
    """A run. ``feature_spec`` is for the preprocessing of raw data; later stages read the one beside the data.

    A server in a container comes from ``triton_container_image``, else from ``triton_dockerfile``, which is built, else
    it is NVIDIA's of release ``container_version``. ``triton_custom_operations`` is a library that it preloads. Without
    ``triton_launch_mode`` a configuration with any of these keys uses a container, as the original's do.

    With ``ensemble_model_name`` each experiment also deploys, compares and measures the network behind its
    preprocessing.
    """

    model_name: str
    datasets_dir: Path
    datasets: list[Dataset]
    checkpoints: list[Checkpoint]
    configurations: list[Configuration]
    framework: Framework = Framework.TENSORFLOW2
    batching: Batching = Batching.DYNAMIC
    triton_launch_mode: TritonLaunchMode | None = None
    container_version: str | None = None
    triton_container_image: str | None = None
    triton_dockerfile: Path | None = None
    triton_custom_operations: Path | None = None
    triton_load_model_method: LoadMethod = LoadMethod.EXPLICIT
    ensemble_model_name: str | None = None
    performance_tool: PerformanceTool = PerformanceTool.PERF_ANALYZER
    measurement_steps_offline: int = 8
    measurement_steps_online: int = 32
    measurement: Measurement = field(default_factory=Measurement)
    deep_hidden_units: list[int] | None = None
    feature_spec: Path | None = None
    embedding_sizes: Path | None = None
    demo_data: DemoData = field(default_factory=DemoData)
    training: Training = field(default_factory=Training)
    correctness: Correctness = field(default_factory=Correctness)
    http_port: int | None = None
    grpc_port: int | None = None

    def __post_init__(self) -> None:
        for name in ("measurement_steps_offline", "measurement_steps_online"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("datasets", "checkpoints", "configurations"):
            if not getattr(self, name):
                raise UsageError(f"{name} must hold at least one entry")
        if len(self.datasets) > 1:
            raise UsageError(f"datasets: a run takes one data set, found {len(self.datasets)}")
        known = {checkpoint.name for checkpoint in self.checkpoints}
        for number, configuration in enumerate(self.configurations, 1):
            for name in (configuration.checkpoint, configuration.parameters.checkpoint):
                if name not in known:
                    raise UsageError(f"configuration {number} uses checkpoint {name}, which checkpoints does not list")
        if self.ensemble_model_name in (self.model_name, ""):
            raise UsageError(f"ensemble_model_name {self.ensemble_model_name!r}: give a name that is not model_name")
        if self.ensemble_model_name and self.performance_tool is not PerformanceTool.PERF_ANALYZER:
            raise UsageError(f"ensemble_model_name: {self.performance_tool} measures no ensembles, use perf_analyzer")
        if self.ensemble_model_name and self.launch_mode is TritonLaunchMode.DOCKER:
            raise UsageError(
                "ensemble_model_name: preprocessing runs on this project's packages, which a server's container lacks: "
                "use triton_launch_mode embedded or leave it out"
            )
        problem = next(launch_problems(self), None)
        if problem is not None:
            raise UsageError(problem)

    @property
    def launch_mode(self) -> TritonLaunchMode:
        """Where the server runs."""
        parts: list[Config | Configuration] = [self, *self.configurations]
        containers = any(map(container_keys, parts))
        return self.triton_launch_mode or (TritonLaunchMode.DOCKER if containers else TritonLaunchMode.EMBEDDED)

    def triton_image(self, configuration: Configuration) -> str | None:
        """The image that serves a configuration, the configuration's own keys first; None if it is built."""
        for part in (configuration, self):
            if part.triton_container_image:
                return part.triton_container_image
            if part is self and self.triton_dockerfile:
                return None
            if part.container_version:
                return TRITON_IMAGE.format(part.container_version)
        return None

    @property
    def dataset_dir(self) -> Path:
        """The preprocessed data set: ``valid/*.parquet`` and, if it is to be trained on, ``train/*.parquet``."""
        return (self.datasets_dir / self.datasets[0].name).resolve()

    @property
    def raw_rows_dir(self) -> Path:
        """The data set's rows before preprocessing, ``valid/*.parquet``; an ensemble is asked with them."""
        return self.dataset_dir.with_name(f"{self.dataset_dir.name}_joined")


def load_config(path: Path) -> Config:
    """Reads a configuration. Raises UsageError, naming the file and the key, if it can't be used."""
    try:
        plain = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"configuration {path} can't be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"configuration {path} is not YAML: {error}") from error
    return from_mapping(Config, plain, str(path))
