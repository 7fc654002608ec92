"""The configuration of a run: one YAML, checked key by key before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

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


class Framework(Mnemonic):
    """What the checkpoints were trained with."""

    TENSORFLOW2 = "TensorFlow2"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint by its folder under ``checkpoints/``; one that is not there is trained from the data set."""

    name: str


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
    """One experiment."""

    checkpoint: str
    parameters: Parameters


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
    """A run. ``feature_spec`` is for the preprocessing of raw data; later stages read the one beside the data."""

    model_name: str
    datasets_dir: Path
    datasets: list[Dataset]
    checkpoints: list[Checkpoint]
    configurations: list[Configuration]
    framework: Framework = Framework.TENSORFLOW2
    batching: Batching = Batching.DYNAMIC
    triton_load_model_method: LoadMethod = LoadMethod.EXPLICIT
    performance_tool: PerformanceTool = PerformanceTool.PERF_ANALYZER
    measurement_steps_offline: int = 8
    measurement_steps_online: int = 32
    measurement: Measurement = field(default_factory=Measurement)
    deep_hidden_units: list[int] | None = None
    feature_spec: Path | None = None
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

    @property
    def dataset_dir(self) -> Path:
        """The preprocessed data set: ``valid/*.parquet`` and, if it is to be trained on, ``train/*.parquet``."""
        return (self.datasets_dir / self.datasets[0].name).resolve()


def load_config(path: Path) -> Config:
    """Reads a configuration. Raises UsageError, naming the file and the key, if it can't be used."""
    try:
        plain = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"configuration {path} can't be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"configuration {path} is not YAML: {error}") from error
    return from_mapping(Config, plain, str(path))
