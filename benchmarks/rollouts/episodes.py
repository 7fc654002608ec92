"""Episodes of a deployment's life under constant load, and what became of the requests meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rollouts.constant_load import GRPC, HTTP, ConstantLoad
from benchmarks.rollouts.envoy import Envoy, RouteRule
from benchmarks.rollouts.pods import Fleet, Pod
from deployment_toolkit.errors import PerformanceError, ToleranceError

logger = logging.getLogger("rollouts")

_MOST_REASONS = 3


@dataclass(frozen=True)
class RolloutEpisode:
    """An episode: requests by what became of them, with ``wrong`` of the answered ones; ``seconds`` of the whole, the
    time from SIGTERM to the end of the slowest pod, and how many pods needed SIGKILL. ``share`` is the canary's part of
    the requests, where it has one."""

    name: str
    http_answered: int
    grpc_answered: int
    wrong: int
    http_lost: int
    grpc_lost: int
    seconds: float
    longest_request_s: float
    pods_ended: int
    slowest_end_s: float
    killed: int
    pre_stop_s: float
    share: float | None = None
    note: str = ""

    @property
    def lost(self) -> int:
        return self.http_lost + self.grpc_lost


class RolloutStage:
    """A fleet behind a gateway under load; ``least`` is the number of requests per protocol and episode."""

    def __init__(self, gateway: Envoy, fleet: Fleet, load: ConstantLoad, least: int) -> None:
        self.gateway, self.fleet, self.load, self.least = gateway, fleet, load, least
        self.episodes: list[RolloutEpisode] = []
        self._before = load.tally()

    @contextmanager
    def episode(self, name: str, canary: str | None = None) -> Iterator[None]:
        """Counts what happens to requests from the end of the last episode to that of the block; then, the pods that
        were deleted have ended and there were enough requests. ``canary`` is the service whose share within the block
        is told. Raises PerformanceError if the gateway has sent a request twice, since that hides a loss."""
        begun, passed_on = time.monotonic(), self.gateway.requests()
        yield
        ends = self.fleet.wait_ended()
        self.load.wait_ended(self._before, self.least)
        if self.gateway.retries():
            raise PerformanceError(f"{name}: the gateway has sent {self.gateway.retries()} requests twice")
        now = self.load.restart()
        tally, self._before = now.since(self._before), now
        share = None
        if canary is not None:
            counts = {one: count - passed_on[one] for one, count in self.gateway.requests().items()}
            share = counts[canary] / sum(counts.values())
        done = RolloutEpisode(
            name=name,
            http_answered=tally.answered[HTTP],
            grpc_answered=tally.answered[GRPC],
            wrong=tally.wrong.total(),
            http_lost=tally.lost[HTTP],
            grpc_lost=tally.lost[GRPC],
            seconds=round(time.monotonic() - begun, 1),
            longest_request_s=round(tally.longest_s, 2),
            pods_ended=len(ends),
            slowest_end_s=round(max((end.took_s for end in ends), default=0.0), 1),
            killed=sum(end.killed for end in ends),
            pre_stop_s=self.fleet.template.pre_stop_s,
            share=None if share is None else round(share, 6),  # one request of a million is seen
            note="; ".join(f"{count} × {text}" for text, count in tally.reasons.most_common(_MOST_REASONS)),
        )
        self.episodes.append(done)
        logger.info("%s", done)


def rolling_restart(
    stage: RolloutStage, service: str, repository: Path, surge: int, name: str = "rolling restart"
) -> None:
    """Replaces each pod by one that serves ``repository``, as a Deployment with maxUnavailable 0 does: ``surge`` new
    ones are ready before as many old ones are deleted."""
    with stage.episode(name):
        old = stage.fleet.pods(service)
        while old:
            leaving, old = old[:surge], old[surge:]
            stage.fleet.start(service, repository, len(leaving))
            for pod in leaving:
                stage.fleet.delete(pod)


def scale_down(stage: RolloutStage, service: str, count: int) -> None:
    """Deletes the newest pods until ``count`` are left."""
    pods = stage.fleet.pods(service)
    with stage.episode(f"scale-down {len(pods)} → {count}"):
        for pod in pods[count:]:
            stage.fleet.delete(pod)


def without_pre_stop(stage: RolloutStage, service: str, repository: Path, surge: int) -> None:
    """A rolling restart of pods that get SIGTERM as soon as they are deleted; all else is the chart's."""
    template = stage.fleet.template
    stage.fleet.template = template.without_pre_stop()
    try:
        rolling_restart(stage, service, repository, surge, "rolling restart with preStop 0")
    finally:
        stage.fleet.template = template


def canary(
    stage: RolloutStage,
    services: tuple[str, str],
    repository: Path,
    gate: Callable[[Pod], None],
    routes: Mapping[int, Sequence[RouteRule]],
    surge: int,
) -> None:
    """A new model beside the old one, on the second of ``services``: weight 0, the gate, more weight step by step; then
    the first service gets the new model while the canary goes on, the weight goes back to 0, and the canary ends.
    ``routes`` are the gateway's by the canary's weight; the first is 0. Raises ToleranceError with the gate's words if
    it refuses the model: then the canary has ended without having had a request."""
    stable, new = services
    refused: ToleranceError | None = None
    with stage.episode("canary, weight 0, the gate", canary=new):
        stage.gateway.set_routes(routes[0])
        (pod,) = stage.fleet.start(new, repository)
        try:
            gate(pod)
        except ToleranceError as error:
            refused = error
            stage.fleet.delete(pod)
    if refused is not None:
        raise refused
    for weight, rules in list(routes.items())[1:]:
        with stage.episode(f"canary, weight {weight}", canary=new):
            stage.gateway.set_routes(rules)
    rolling_restart(stage, stable, repository, surge, "the new model on all other pods")
    with stage.episode("end of the canary", canary=new):
        stage.gateway.set_routes(routes[0])
        stage.fleet.delete(pod)
