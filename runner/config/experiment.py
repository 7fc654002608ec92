"""One experiment as it is configured."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deployment_toolkit.core import Accelerator, DeviceKind, Format, Host, Mnemonic, Precision
from deployment_toolkit.deploying.queue_policy import QueuePolicy, TimeoutAction
from deployment_toolkit.errors import UsageError, require_at_least, require_within

RELEASE = r"\d\d\.\d\d"  # of NVIDIA's containers: year and month
MOST_AT_ONCE = 1024  # threads or instances: no host has as many cores
AUTO_HOST = "auto"  # native, and python where the server turns out to have no backend of the format


class TritonLaunchMode(Mnemonic):
    """Place of the server: the one that comes with the requirements, without Docker; one in a container; or one that
    somebody else has started."""

    EMBEDDED = "embedded"
    DOCKER = "docker"
    REMOTE = "remote"


@dataclass(frozen=True)
class Parameters:
    """Parameters of an experiment.

    ``host`` is one of ``Host`` or ``auto``, by default whichever the launch mode's server has. ``threads`` are those of
    an instance in the Python host, of the whole model in the C++ host. Preferred sizes and delay are those of dynamic
    batching; no preferred size is the largest batch. The queue's limits are those of ``QueuePolicy``;
    ``warmup_batch_sizes`` are the batches computed when the model is loaded, None for the usual ones. ``packed_inputs``
    serves one tensor of all numbers and one of all ids, in place of a tensor for each input.
    """

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
    host: str | None = None
    threads: int | None = None
    preferred_batch_sizes: list[int] | None = None
    max_queue_delay_us: int = 0
    latency_budget_ms: float | None = None
    max_queue_size: int = 0
    queue_timeout_us: int | None = None
    queue_timeout_action: TimeoutAction = TimeoutAction.REJECT
    priority_levels: int = 0
    default_priority_level: int = 0
    warmup_batch_sizes: list[int] | None = None
    packed_inputs: bool = False

    def __post_init__(self) -> None:
        require_at_least("max_batch_size", self.max_batch_size, 1)
        for name in ("number_of_model_instances", "threads"):
            if getattr(self, name) is not None:
                require_within(name, getattr(self, name), 1, MOST_AT_ONCE)
        hosts = [*map(str, Host), AUTO_HOST]
        if self.host is not None and self.host not in hosts:
            raise UsageError(f"host: {self.host!r} is none of {', '.join(hosts)}")
        if self.preferred_batch_sizes == []:
            raise UsageError("preferred_batch_sizes must hold at least one size: leave it out for the largest batch")
        for size in self.preferred_batch_sizes or []:
            if not 1 <= size <= self.max_batch_size:
                raise UsageError(f"preferred_batch_sizes: {size} is outside 1 .. {self.max_batch_size}, max_batch_size")
        if self.max_queue_delay_us < 0:
            raise UsageError(f"max_queue_delay_us can't be negative, it is {self.max_queue_delay_us}")
        for size in self.warmup_batch_sizes or []:
            if not 1 <= size <= self.max_batch_size:
                raise UsageError(f"warmup_batch_sizes: {size} is outside 1 .. {self.max_batch_size}, max_batch_size")
        _ = self.queue  # checks its limits

    @property
    def queue(self) -> QueuePolicy:
        """Limits of the queue before the model. Raises UsageError if they make no sense."""
        return QueuePolicy.of(
            latency_budget_ms=self.latency_budget_ms,
            timeout_us=self.queue_timeout_us,
            max_queue_size=self.max_queue_size,
            timeout_action=self.queue_timeout_action,
            priority_levels=self.priority_levels,
            default_priority_level=self.default_priority_level,
        )


@dataclass(frozen=True)
class ExperimentConfig:
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
    if container_version and not re.fullmatch(RELEASE, container_version):
        raise UsageError(f"container_version {container_version} is no release: give year and month, as '25.02'")
