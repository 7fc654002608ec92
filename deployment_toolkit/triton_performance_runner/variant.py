"""A way of serving a model that Model Analyzer is to try: what it changes of ``config.pbtxt``, and how it is told from
others."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from deployment_toolkit.triton_performance_runner.options import LoadPoint
from deployment_toolkit.triton_server.config_keys import THREADS


@dataclass(frozen=True, order=True)
class Variant:
    """``threads`` is None for a model whose configuration has no such parameter."""

    instances: int
    threads: int | None
    preferred_batch_sizes: tuple[int, ...]
    max_queue_delay_us: int

    @property
    def cells(self) -> dict[str, object]:
        """As columns of a table; ``of_cells`` is its inverse."""
        return {
            "Instances": self.instances,
            "Threads": self.threads,
            "Preferred batch sizes": " ".join(map(str, self.preferred_batch_sizes)),
            "Max queue delay (us)": self.max_queue_delay_us,
        }

    @classmethod
    def of_cells(cls, line: Mapping[str, str]) -> Self:
        """From a line of a table. Raises KeyError or ValueError."""
        return cls(
            int(line["Instances"]),
            int(line["Threads"]) if line["Threads"] else None,
            tuple(int(size) for size in line["Preferred batch sizes"].split()),
            int(line["Max queue delay (us)"]),
        )

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Variant:
        """What a server runs, from the configuration that it tells."""
        dynamic = config.get("dynamic_batching", {})
        threads = config.get("parameters", {}).get(THREADS, {}).get("string_value")
        return cls(
            sum(group["count"] for group in config["instance_group"]),
            None if threads is None else int(threads),
            tuple(sorted(dynamic.get("preferred_batch_size", ()))),
            int(dynamic.get("max_queue_delay_microseconds", 0)),
        )


@dataclass(frozen=True)
class VariantPoint(LoadPoint):
    """A measurement of a variant."""

    variant: Variant

    @property
    def key(self) -> str:
        """Names it in a file's name."""
        variant = self.variant
        sizes = "-".join(map(str, variant.preferred_batch_sizes))
        settings = f"{variant.instances}_{variant.threads}_{sizes}_{variant.max_queue_delay_us}"
        return f"{super().key}_of_{settings}"


def combinations(variants: Sequence[Variant]) -> list[Variant]:
    """Every combination of the values that the variants have."""
    return [Variant(*values) for values in itertools.product(*_values(variants))]


def model_config_parameters(variants: Sequence[Variant], kind: str) -> dict[str, Any]:
    """What Model Analyzer is told to try of a model whose instances are of this kind: the values that the variants
    have, as lists, of which it makes every combination. Source: its documentation, docs/config.md."""
    counts, threads, sizes, delays = _values(variants)
    told: dict[str, Any] = {
        "instance_group": [{"kind": kind, "count": counts}],
        "dynamic_batching": {
            "preferred_batch_size": [list(size) for size in sizes],
            "max_queue_delay_microseconds": delays,
        },
    }
    named = [str(count) for count in threads if count is not None]
    if named:
        told["parameters"] = {THREADS: {"string_value": named}}
    return told


def _values(variants: Sequence[Variant]) -> list[list[Any]]:
    """Of each field, each value once."""
    return [list(dict.fromkeys(values)) for values in zip(*map(dataclasses.astuple, variants), strict=True)]
