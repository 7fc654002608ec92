"""Which batch sizes and concurrencies are measured.

Source: the runner of NVIDIA DeepLearningExamples, TensorFlow2/Recommendation/WideAndDeep/triton, which for a maximum
batch of 131072, 2 instances, 8 offline and 32 online steps gives batch 1, 16384 … 131072, and concurrency 8 … 256 at
batch 2048.
"""

from __future__ import annotations

from dataclasses import dataclass

from deployment_toolkit.core import Batching

MAX_CONCURRENCY = 256


@dataclass(frozen=True)
class MeasurementPoints:
    """Every batch size is measured at every concurrency."""

    batch_sizes: tuple[int, ...]
    concurrency: tuple[int, ...]


def offline_points(max_batch_size: int, steps: int, batching: Batching) -> MeasurementPoints:
    """One request at a time: a single row, then ``steps`` equal steps up to the maximum batch."""
    largest = 1 if batching is Batching.DISABLED else max_batch_size
    return MeasurementPoints(tuple(sorted({1, *_steps(largest, steps)})), (1,))


def online_points(max_batch_size: int, instances: int, steps: int, batching: Batching) -> MeasurementPoints:
    """Many requests at once: rows for twice what all instances take, in at most 256 concurrent requests, reached in
    ``steps`` equal steps."""
    largest = 1 if batching is Batching.DISABLED else max_batch_size
    rows = 2 * largest * instances
    concurrency = min(MAX_CONCURRENCY, rows)
    return MeasurementPoints((min(largest, rows // concurrency),), _steps(concurrency, steps))


def _steps(largest: int, steps: int) -> tuple[int, ...]:
    """``steps`` equal steps up to ``largest``; fewer where a step would be below 1."""
    steps = min(steps, largest)
    return tuple(sorted({max(1, largest * number // steps) for number in range(1, steps + 1)}))
