"""Settings that a search tries."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deployment_toolkit.core import Host
from runner.config.experiment import Parameters
from runner.config.hosting import takes_threads
from runner.config.search import Search

_MOST_LAYOUTS = 6  # up to this number all are tried; with more, first instances, then threads
_OVERSUBSCRIPTION = 2


@dataclass(frozen=True, order=True)
class Candidate:
    """Serving settings of a model. ``threads`` is None if the host takes none."""

    instances: int
    threads: int | None
    preferred_batch_sizes: tuple[int, ...]
    max_queue_delay_us: int

    @property
    def cells(self) -> dict[str, object]:
        """Columns of a table row; ``of_cells`` is the inverse."""
        return {
            "Instances": self.instances,
            "Threads": self.threads,
            "Preferred batch sizes": " ".join(map(str, self.preferred_batch_sizes)),
            "Max queue delay (us)": self.max_queue_delay_us,
        }

    @classmethod
    def of_cells(cls, line: Mapping[str, str]) -> Candidate:
        """Candidate of a table row. Raises KeyError or ValueError."""
        return cls(
            int(line["Instances"]),
            int(line["Threads"]) if line["Threads"] else None,
            tuple(int(size) for size in line["Preferred batch sizes"].split()),
            int(line["Max queue delay (us)"]),
        )

    def over(self, parameters: Parameters) -> Parameters:
        """Parameters of an experiment with these settings."""
        return dataclasses.replace(
            parameters,
            number_of_model_instances=self.instances,
            threads=self.threads,
            preferred_batch_sizes=list(self.preferred_batch_sizes),
            max_queue_delay_us=self.max_queue_delay_us,
        )

    @property
    def layout(self) -> tuple[int, int | None]:
        """Instances and threads of the candidate."""
        return self.instances, self.threads

    def __str__(self) -> str:
        parts = [f"{self.instances} instance{'s' if self.instances > 1 else ''}"]
        if self.threads is not None:
            parts.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        sizes = " or ".join(map(str, self.preferred_batch_sizes))
        return f"{', '.join(parts)}, batch {sizes} preferred, queue delay {self.max_queue_delay_us} us"


@dataclass(frozen=True)
class Space:
    """Grid around ``start``, the experiment's configured settings."""

    start: Candidate
    layouts: tuple[tuple[int, int | None], ...]
    preferred_batch_sizes: tuple[int, ...]
    max_queue_delays_us: tuple[int, ...]

    @classmethod
    def of(cls, search: Search, parameters: Parameters, host: str, cores: int) -> Space:
        """Grid from the configuration. Defaults: instances and threads that keep from half of the cores to twice as
        many busy, and preferred batches of a part of the rows in flight, or as large as the model takes."""
        in_flight = search.rows_per_request * max(search.concurrency)
        parts = (in_flight // part for part in (8, 4, 2))
        sizes = search.preferred_batch_sizes or [
            *(size for size in parts if search.rows_per_request <= size < parameters.max_batch_size),
            parameters.max_batch_size,
        ]
        threads = parameters.threads if takes_threads(host) else None
        if threads is None and takes_threads(host):
            share = 1 if host != Host.PYTHON else parameters.number_of_model_instances
            threads = max(1, cores // share)
        start = Candidate(
            parameters.number_of_model_instances,
            threads,
            tuple(parameters.preferred_batch_sizes or [parameters.max_batch_size]),
            parameters.max_queue_delay_us,
        )
        # A queue with limits takes no delay.
        delays = (0,) if parameters.queue.is_set else tuple(sorted(set(search.max_queue_delays_us)))
        return cls(start, tuple(_layouts(search, host, cores)), tuple(sorted(set(sizes))), delays)

    @property
    def size(self) -> int:
        """Number of candidates in the grid."""
        return len(self.layouts) * len(self.preferred_batch_sizes) * len(self.max_queue_delays_us)

    def axes(self, around: Candidate) -> list[list[Candidate]]:
        """Candidates that differ from ``around`` in one axis: instances and threads, preferred sizes, delay."""
        replace = dataclasses.replace
        layouts = {
            layout: replace(around, instances=layout[0], threads=layout[1]) for layout in (around.layout, *self.layouts)
        }
        if len(layouts) <= _MOST_LAYOUTS:
            axes = [list(layouts.values())]
        else:
            like = {layout: layouts[layout] for layout in _alike(around.layout, list(layouts))}
            same = [item for layout, item in layouts.items() if layout[0] == around.instances]
            axes = [list(like.values()), same]
        axes.append([replace(around, preferred_batch_sizes=(size,)) for size in self.preferred_batch_sizes])
        axes.append([replace(around, max_queue_delay_us=delay) for delay in self.max_queue_delays_us])
        return [list(dict.fromkeys([around, *axis])) for axis in axes]


def _layouts(search: Search, host: str, cores: int) -> list[tuple[int, int | None]]:
    counts = sorted(set(search.instances or [*_doublings(cores), cores]))
    if not takes_threads(host):
        return [(count, None) for count in counts]
    threads = sorted(set(search.threads or [*_doublings(cores), cores]))
    pairs = list(itertools.product(counts, threads))
    if search.instances and search.threads:
        return list(pairs)
    busy = {pair: pair[0] * pair[1] if host == Host.PYTHON else pair[1] for pair in pairs}
    return [pair for pair in pairs if cores <= 2 * busy[pair] <= 2 * _OVERSUBSCRIPTION * cores] or list(pairs)


def _doublings(largest: int) -> list[int]:
    """Powers of two, 1, 2, 4 … up to ``largest``."""
    return [2**power for power in range(largest.bit_length()) if 2**power <= largest]


def _alike(around: tuple[int, int | None], layouts: Sequence[tuple[int, int | None]]) -> list[tuple[int, int | None]]:
    """Layouts, one per number of instances, with the threads that keep about as many cores busy as ``around``."""
    wanted = around[0] * (around[1] or 1)
    by_count = {count: [layout for layout in layouts if layout[0] == count] for count, _ in layouts}
    return [min(group, key=lambda layout: abs(layout[0] * (layout[1] or 1) - wanted)) for group in by_count.values()]
