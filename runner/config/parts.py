"""The nested keys of a run's configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from deployment_toolkit.core import Mnemonic
from deployment_toolkit.errors import UsageError

_SCHEMES = ("https", "file", "http")


class Framework(Mnemonic):
    """Framework that the checkpoints were trained with."""

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
class DatasetConfig:
    """A data set by its folder under ``datasets_dir``."""

    name: str


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
    """Gate of the deployed model against the framework: ``|a - b| <= atol + rtol * |b|`` in every row, and MAP@12
    within ``max_map_loss``. For OpenVINO in bf16 and int8: ``|a - b| <= reduced_precision_atol`` in every row, which
    finds what is broken, and MAP@12 and ROC AUC each within ``reduced_precision_max_metric_loss``."""

    atol: float = 1e-5
    rtol: float = 1e-4
    max_map_loss: float = 1e-4
    reduced_precision_atol: float = 0.1
    reduced_precision_max_metric_loss: float = 1e-3
    batch_size: int = 4096


@dataclass(frozen=True)
class MeasurementConfig:
    """Measurement of a point: three windows of ``request_count`` requests (a second at least); it settled if they
    differ by at most ``stability_percentage``, else it is repeated up to ``retries`` times, each twice as long."""

    request_count: int = 17
    stability_percentage: float = 10.0
    retries: int = 1
