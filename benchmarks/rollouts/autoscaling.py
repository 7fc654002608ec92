"""The episode of the simulated autoscaler: much load, then little, on servers whose number follows its decisions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.rollouts.chart import HelmChart, autoscaler, pod_template, queue_window_s, route_rules
from benchmarks.rollouts.constant_load import ConstantLoad, Questions, constant_load
from benchmarks.rollouts.envoy import running_envoy
from benchmarks.rollouts.episodes import RolloutEpisode, RolloutStage
from benchmarks.rollouts.pods import Fleet, Pod, metrics_text
from benchmarks.rollouts.queue_time import QueueTime
from benchmarks.rollouts.scaling_loop import Metric, ScalingLoop, ScalingStep
from benchmarks.rollouts.stage import SERVICES
from benchmarks.rollouts.waiting_model import NAME, add_waiting_model
from deployment_toolkit.errors import PerformanceError

_MUCH, _LITTLE = 24, 1  # clients per protocol
_RESTS = 3  # looks without a change
_LIMIT_S = 3600.0  # of the autoscaler's clock, for either half
_QUESTIONS = 64


def autoscale(
    chart: HelmChart, envoy: Path, folder: Path, speed: float, least: int, metric: Metric | None = None
) -> tuple[RolloutEpisode, list[ScalingStep]]:
    """Load that is too much for the least number of servers, until the autoscaler rests; then little, until it is back
    at the least. Its clock runs ``speed`` times as fast as this machine's. ``metric`` is the queue time in
    milliseconds, by default from the servers themselves. There are at least ``least`` requests per protocol.

    Raises PerformanceError if it does not come to rest."""
    # Of the processors' metric nothing is told: all servers here share the same cores.
    own = (f"model.name={NAME}", "autoscaling.targetCPU=0")
    objects = chart.render(*own)
    spec = autoscaler(objects)
    if metric is None:
        metric = QueueMetric(QueueTime(NAME, queue_window_s(chart.render(*own, "autoscaling.kind=keda"))))
    repository = folder / "models"
    add_waiting_model(repository)
    with (
        running_envoy(envoy, SERVICES, folder / "envoy") as gateway,
        Fleet(gateway, pod_template(objects, SERVICES[0]), folder / "pods") as fleet,
    ):
        gateway.set_routes(route_rules(objects))
        fleet.start(SERVICES[0], repository, spec.least)
        loop = ScalingLoop(fleet, SERVICES[0], repository, spec, metric, speed)
        with constant_load(gateway.http_url, gateway.grpc_url, _questions(), _MUCH) as load:
            stage = RolloutStage(gateway, fleet, load, least)
            with stage.episode(f"simulated autoscaler, {spec.least} to {spec.most} servers"):
                _follow(loop, load, spec.least)
        return stage.episodes[0], loop.steps


def _follow(loop: ScalingLoop, load: ConstantLoad, least: int) -> None:
    def rests_above(step: ScalingStep) -> bool:
        last = loop.steps[-_RESTS:]
        return step.replicas > least and len(last) == _RESTS and all(one.decided == step.replicas for one in last)

    if not loop.run_until(rests_above, _LIMIT_S):
        raise PerformanceError(f"the autoscaler does not rest under load: {loop.steps[-1]}")
    load.use(_LITTLE)
    if not loop.run_until(lambda step: step.decided == least, _LIMIT_S):
        raise PerformanceError(f"the autoscaler does not go back to {least} servers: {loop.steps[-1]}")


class QueueMetric:
    """The metric from the servers' own metrics ports."""

    def __init__(self, queue_time: QueueTime) -> None:
        self._queue_time = queue_time

    def __call__(self, now: float, pods: list[Pod]) -> float | None:
        return self._queue_time.add(now, {pod.name: metrics_text(pod) for pod in pods})


def _questions() -> Questions:
    x = np.arange(_QUESTIONS, dtype=np.float32).reshape(-1, 1, 1)
    return Questions(NAME, [{"x": row} for row in x], list(x + 1), 0.0)
