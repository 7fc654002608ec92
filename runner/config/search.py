"""The key ``search`` of a run: the settings to try, the load, and the time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from deployment_toolkit.core import Batching
from deployment_toolkit.errors import UsageError, require_at_least, require_within
from deployment_toolkit.server_access.url import Scheme
from runner.config.experiment import MOST_AT_ONCE, Parameters, TritonLaunchMode
from runner.config.hosting import host_of, takes_threads


@dataclass(frozen=True)
class Search:
    """Search over a grid, for ``experiments`` (None: every one that runs), for the best throughput with a
    99th percentile of the latency of at most ``p99_budget_ms``.

    The load is ``rows_per_request`` rows a request over ``protocol``, at each ``concurrency``. A part of the grid that
    is not given follows from the host's cores and the load (``Space``). ``minutes`` is about what the search of an
    experiment takes; the best ``finalists`` are compared in ``rounds``, each with windows of ``window_ms``.
    """

    experiments: list[int] | None = None
    instances: list[int] | None = None
    threads: list[int] | None = None
    preferred_batch_sizes: list[int] | None = None
    max_queue_delays_us: list[int] = field(default_factory=lambda: [0, 1000, 4000])
    p99_budget_ms: float = 100.0
    protocol: Scheme = Scheme.HTTP
    rows_per_request: int = 32
    concurrency: list[int] = field(default_factory=lambda: [16, 64])
    minutes: float = 5.0
    finalists: int = 3
    rounds: int = 3
    window_ms: int = 2000

    def __post_init__(self) -> None:
        for name in ("instances", "threads", "preferred_batch_sizes", "max_queue_delays_us", "concurrency"):
            values, least = getattr(self, name), 0 if name == "max_queue_delays_us" else 1
            if values is not None and (not values or min(values) < least):
                raise UsageError(f"{name} needs whole numbers from {least} on, not {values}")
        for name in ("instances", "threads", "concurrency"):
            require_within(name, max(getattr(self, name) or [1]), 1, MOST_AT_ONCE)
        for name in ("rows_per_request", "rounds", "window_ms"):
            require_at_least(name, getattr(self, name), 1)
        if self.finalists < 2:
            raise UsageError(f"finalists must be at least 2, not {self.finalists}: a choice needs a runner-up")
        for name in ("p99_budget_ms", "minutes"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be above 0, not {getattr(self, name)}")

    def chooses(self, number: int) -> bool:
        """True if experiment ``number`` is searched, if it runs."""
        return self.experiments is None or number in self.experiments

    def problems(self, mode: TritonLaunchMode, parameters: Parameters, batching: Batching) -> Iterator[str]:
        """Reasons why an experiment can't be searched like this."""
        if batching is not Batching.DYNAMIC:
            yield f"search tunes dynamic batching, this run's batching is {batching}"
        for name in ("rows_per_request", "preferred_batch_sizes"):
            given = getattr(self, name)
            largest = max(given) if isinstance(given, list) else given or 0
            if largest > parameters.max_batch_size:
                yield f"search: {name} {largest} is above max_batch_size {parameters.max_batch_size}"
        host = host_of(mode, parameters)
        if self.threads is not None and not takes_threads(host):
            yield f"search: threads are told to a host of this project, not to {host}: leave them out"
