"""The nested keys of a run's configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from deployment_toolkit.core import Mnemonic, PerformanceTool
from deployment_toolkit.errors import UsageError, require_at_least
from deployment_toolkit.redaction import shown_url
from runner.config.names import require_folder_name

_SCHEMES = ("https", "file", "http")
_MAP_LOSS = 1e-4
_REDUCED_LOSS = 1e-3


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
        require_folder_name("name", self.name)
        if self.url and _scheme(self.url) not in _SCHEMES:
            raise UsageError(
                f"url {shown_url(self.url)} of checkpoint {self.name} must start with {' or '.join(_SCHEMES)}:"
            )
        if self.sha256 and not re.fullmatch("[0-9a-fA-F]{64}", self.sha256):
            raise UsageError(f"sha256 of checkpoint {self.name} must be 64 hexadecimal digits, as sha256sum prints")
        if self.sha256 and not self.url:
            raise UsageError(f"sha256 of checkpoint {self.name} belongs to a url: add it, or leave sha256 out")


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:  # half of an IPv6 address
        return ""


@dataclass(frozen=True)
class DatasetConfig:
    """A data set by its folder under ``datasets_dir``."""

    name: str

    def __post_init__(self) -> None:
        require_folder_name("name", self.name)


@dataclass(frozen=True)
class DemoData:
    """The data set that is generated where ``datasets_dir`` has none."""

    displays: int = 40_000
    seed: int = 1

    def __post_init__(self) -> None:
        require_at_least("displays", self.displays, 1)
        require_at_least("seed", self.seed, 0)


@dataclass(frozen=True)
class Training:
    """The demo checkpoint that is trained where ``checkpoints/`` has none, for ``max_steps`` batches at most."""

    epochs: int = 2
    batch_size: int = 1024
    max_steps: int | None = None

    def __post_init__(self) -> None:
        require_at_least("epochs", self.epochs, 1)
        require_at_least("batch_size", self.batch_size, 1)
        if self.max_steps is not None:
            require_at_least("max_steps", self.max_steps, 1)


@dataclass(frozen=True)
class MetricLimits:
    """Largest loss of a metric against the framework, in fp32 and in a reduced precision (None: the metric is not gated
    there), and its name in reports (None: its name in the CSV)."""

    max_loss: float | None = None
    reduced_precision_max_loss: float | None = None
    title: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_loss", "reduced_precision_max_loss"):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), 0)


@dataclass(frozen=True)
class Correctness:
    """Gate of the deployed model against the framework: ``|a - b| <= atol + rtol * |b|`` in every row, and the
    metrics within their limits. For OpenVINO in bf16, and for int8: ``|a - b| <= reduced_precision_atol`` in every row,
    which finds what is broken, and the metrics within their limits for that.

    The server is asked with many requests at once over each protocol, and if ``one_at_a_time``, also one by one.

    ``metrics`` are the limits by metric. Without them they are Wide & Deep's: MAP@12 within ``max_map_loss``, in a
    reduced precision MAP@12 and ROC AUC each within ``reduced_precision_max_metric_loss``.
    """

    atol: float = 1e-5
    rtol: float = 1e-4
    max_map_loss: float = _MAP_LOSS
    reduced_precision_atol: float = 0.1
    reduced_precision_max_metric_loss: float = _REDUCED_LOSS
    batch_size: int = 4096
    one_at_a_time: bool = True
    metrics: dict[str, MetricLimits] | None = None

    def __post_init__(self) -> None:
        for name in ("atol", "rtol", "max_map_loss", "reduced_precision_atol", "reduced_precision_max_metric_loss"):
            require_at_least(name, getattr(self, name), 0)
        require_at_least("batch_size", self.batch_size, 1)
        if self.metrics == {}:
            raise UsageError("metrics must name at least one metric")
        if self.metrics and (self.max_map_loss, self.reduced_precision_max_metric_loss) != (_MAP_LOSS, _REDUCED_LOSS):
            raise UsageError(
                "max_map_loss and reduced_precision_max_metric_loss are limits where metrics gives none: leave them "
                "out, or metrics"
            )

    @property
    def gated(self) -> dict[str, MetricLimits]:
        """The limits by metric."""
        reduced = self.reduced_precision_max_metric_loss
        return self.metrics or {
            "map12": MetricLimits(self.max_map_loss, reduced, "MAP@12"),
            "roc_auc": MetricLimits(None, reduced, "ROC AUC"),
        }

    def largest_losses(self, *, reduced: bool) -> dict[str, float]:
        """The limit of each metric that is gated in fp32, or in a reduced precision."""
        limits = {
            name: item.reduced_precision_max_loss if reduced else item.max_loss for name, item in self.gated.items()
        }
        return {name: limit for name, limit in limits.items() if limit is not None}

    @property
    def only_if_defined(self) -> tuple[str, ...]:
        """Metrics whose limit nobody asked for: MAP@12, which data without groups don't have."""
        asked = self.metrics is not None or self.max_map_loss != _MAP_LOSS
        return () if asked else ("map12",)

    def title(self, metric: str) -> str:
        """The name of a metric in reports."""
        limits = self.gated.get(metric)
        return (limits and limits.title) or metric.replace("_", " ")


@dataclass(frozen=True)
class ModelNames:
    """Names of an experiment's models on the server: the network, and the ensemble around it if there is one."""

    network: str
    ensemble: str | None

    @property
    def served(self) -> tuple[str, ...]:
        """Names of all models, each after those that it needs."""
        chain = () if self.ensemble is None else (f"{self.ensemble}_preprocessing", self.ensemble)
        return (self.network, *chain)


@dataclass(frozen=True)
class MeasurementConfig:
    """Measurement of a point: three windows of ``request_count`` requests (a second at least), or of ``window_ms``
    milliseconds if that is given; it settled if they differ by at most ``stability_percentage``, else it is repeated up
    to ``retries`` times, each twice as long."""

    request_count: int = 17
    stability_percentage: float = 10.0
    retries: int = 1
    window_ms: int | None = None

    def __post_init__(self) -> None:
        require_at_least("request_count", self.request_count, 1)
        require_at_least("retries", self.retries, 0)
        if self.stability_percentage <= 0:
            raise UsageError(f"stability_percentage must be above 0, not {self.stability_percentage}")
        if self.window_ms is not None:
            require_at_least("window_ms", self.window_ms, 1)


@dataclass(frozen=True)
class Sweeps:
    """Measurements of an experiment: equal steps up to the largest batch offline, and up to the most concurrent
    requests online, each point as ``measurement`` says."""

    measurement: MeasurementConfig
    tool: PerformanceTool
    steps_offline: int
    steps_online: int
