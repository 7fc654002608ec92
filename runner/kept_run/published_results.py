"""The original's published results, as rows.

Source of the figures: the README of NVIDIA DeepLearningExamples, TensorFlow2/Recommendation/WideAndDeep/triton
(May 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.errors import DataError
from deployment_toolkit.results.performance import (
    BATCH,
    CONCURRENCY,
    LATENCY_PARTS,
    LATENCY_STATISTICS,
    SETTLED,
    THROUGHPUT,
    US_PER_MS,
    PerformanceRow,
)
from deployment_toolkit.results.tables import read_csv

RESULTS = "published_results.csv"
EXPERIMENTS = {"TensorFlow": 6, "NVIDIA TensorRT": 10}  # the original's numbers


@dataclass(frozen=True)
class Sweep:
    """Published rows of one device, backend and mode."""

    device: str
    backend: str
    precision: str
    mode: EvaluationMode
    rows: list[PerformanceRow]

    @property
    def title(self) -> str:
        """Name of the sweep in tables and pictures."""
        return f"{self.device}, {self.backend} {self.precision}"


def read_published(path: Path) -> list[Sweep]:
    """Reads the published rows by device, backend and mode, in the order of the file; latencies in microseconds.

    Raises DataError if there is no such file or a row is invalid.
    """
    sweeps: dict[tuple[str, ...], Sweep] = {}
    for number, line in enumerate(read_csv(path), start=2):
        try:
            key = (line["gpu"], line["backend"], line["precision"], line["scenario"])
            if key not in sweeps:
                sweeps[key] = Sweep(key[0], key[1], key[2], EvaluationMode(key[3]), [])
            sweeps[key].rows.append(_row(line))
        except (KeyError, ValueError, OverflowError) as error:
            raise DataError(
                f"{path}, line {number} is not a published result ({error!r}): copy the file again"
            ) from error
    return list(sweeps.values())


def _row(line: Mapping[str, str]) -> PerformanceRow:
    latencies = {name: float(line[_column(name)]) * US_PER_MS for name in (*LATENCY_PARTS, *LATENCY_STATISTICS)}
    counts = {BATCH: int(line["batch"]), CONCURRENCY: int(line["concurrency"])}
    return {**counts, THROUGHPUT: float(line["inferences_per_second"]), **latencies, SETTLED: True}


def _column(name: str) -> str:
    """Column for a name in the published file: ``network_server_send_recv_ms`` for ``Network+Server Send/Recv``."""
    return f"{name.lower().replace('+', '_').replace('/', '_').replace(' ', '_')}_ms"
