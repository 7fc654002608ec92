"""Wide & Deep as a BentoML service with adaptive batching. ``bentoml serve --arg NAME=VALUE`` gives the arguments."""

from __future__ import annotations

from pathlib import Path

import bentoml
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from benchmarks.peers.engine import Engine


class Arguments(BaseModel):
    """Arguments of the service: the model and its settings."""

    model: str
    threads: int = 2
    workers: int = 1
    max_batch_size: int = 4096
    max_latency_ms: int = 60_000


ARGUMENTS = bentoml.use_arguments(Arguments)


@bentoml.service(
    workers=ARGUMENTS.workers,
    traffic={"timeout": 120},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class WideDeep:
    """Service with rows of numbers in, probabilities out; one inference per batch of requests."""

    def __init__(self) -> None:
        self._engine = Engine(Path(ARGUMENTS.model), threads=ARGUMENTS.threads)

    @bentoml.api(batchable=True, max_batch_size=ARGUMENTS.max_batch_size, max_latency_ms=ARGUMENTS.max_latency_ms)
    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs [B, numbers] -> [B, 1]."""
        return self._engine.probabilities(rows)
