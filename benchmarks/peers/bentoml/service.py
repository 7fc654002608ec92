"""Wide & Deep as a BentoML service with adaptive batching; configured by the environment, as ``bentoml serve`` is."""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.engine import Engine

SETTINGS = dict(os.environ)


@bentoml.service(workers=int(SETTINGS.get("PEER_WORKERS", "1")), traffic={"timeout": 120}, metrics={"enabled": False})
class WideDeep:
    """Rows of numbers in, probabilities out; one inference a batch of requests."""

    def __init__(self) -> None:
        self._engine = Engine(Path(SETTINGS["PEER_MODEL"]), threads=int(SETTINGS["PEER_THREADS"]))

    @bentoml.api(
        batchable=True,
        max_batch_size=int(SETTINGS.get("PEER_MAX_BATCH_SIZE", "4096")),
        max_latency_ms=int(SETTINGS.get("PEER_MAX_LATENCY_MS", "1000")),
    )
    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """[B, numbers] -> [B, 1]."""
        return self._engine.probabilities(rows)
