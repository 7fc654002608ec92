"""The loop of the autoscaler: reads a metric, decides, and starts and ends real servers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rollouts.autoscaler import Autoscaler, HpaSpec
from benchmarks.rollouts.pods import Fleet, Pod

logger = logging.getLogger("rollouts")

SYNC_S = 15.0  # between looks: the controller's --horizontal-pod-autoscaler-sync-period

Metric = Callable[[float, list[Pod]], float | None]


@dataclass(frozen=True)
class ScalingStep:
    """One look of the autoscaler: seconds of its clock since it began, the metric, and the replicas before and
    after."""

    at_s: float
    metric: float | None
    replicas: int
    decided: int


class ScalingLoop:
    """Simulates the controller for one service. Its clock runs ``speed`` times as fast as this machine's."""

    def __init__(
        self, fleet: Fleet, service: str, repository: Path, spec: HpaSpec, metric: Metric, speed: float
    ) -> None:
        self.steps: list[ScalingStep] = []
        self._fleet, self._service, self._repository = fleet, service, repository
        self._autoscaler, self._metric, self._speed = Autoscaler(spec), metric, speed
        self._begun = time.monotonic()
        self._next_s = 0.0

    def run_until(self, is_enough: Callable[[ScalingStep], bool], limit_s: float) -> bool:
        """Looks and acts until ``is_enough`` says so of a step; False if that takes longer than ``limit_s`` of the
        loop's clock. Servers are started in this thread, so the next look waits for them."""
        last_s = self._clock_s() + limit_s
        while self._clock_s() < last_s:
            time.sleep(max(0.0, (self._next_s - self._clock_s()) / self._speed))
            self._next_s = self._clock_s() + SYNC_S
            if is_enough(self._step()):
                return True
        return False

    def _clock_s(self) -> float:
        return (time.monotonic() - self._begun) * self._speed

    def _step(self) -> ScalingStep:
        now = self._clock_s()
        pods = self._fleet.pods(self._service)
        metric = self._metric(now, pods)
        decided = self._autoscaler.decide(now, len(pods), metric)
        step = ScalingStep(round(now, 1), metric, len(pods), decided)
        self.steps.append(step)
        logger.info("%s", step)
        if decided > len(pods):
            self._fleet.start(self._service, self._repository, decided - len(pods))
        for pod in pods[decided:]:
            self._fleet.delete(pod)
        return step
