"""The stage of the rollouts: two servers behind Envoy under load, what they serve next, and what the chart says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cpp_models import TOLERANCES, add_to_repository, arithmetic_of, hosted_format
from benchmarks.rollouts.chart import HelmChart, PodTemplate, pod_template, route_rules
from benchmarks.rollouts.constant_load import Questions, constant_load
from benchmarks.rollouts.envoy import REQUESTS_PER_CONNECTION, RouteRule, running_envoy
from benchmarks.rollouts.episodes import RolloutStage
from benchmarks.rollouts.gate import MOST_ROWS, CanaryGate, keep_answers
from benchmarks.rollouts.pods import Fleet
from deployment_toolkit.library.registry import read_spec

SERVICES = ("wide-deep", "wide-deep-canary")  # names of the chart's Services
WEIGHTS = (0, 5, 50)  # of docs/kubernetes.md: the canary is promoted while it has the last one
MODEL = "wide_deep"
_REPLICAS = 2


@dataclass(frozen=True)
class RolloutSubject:
    """What is rolled out: the chart's template of its pods, its routes by the canary's weight, the repositories of the
    model and the next one, the gate of the next, and questions that both answer alike. ``folder`` takes files."""

    template: PodTemplate
    routes: Mapping[int, Sequence[RouteRule]]
    repository: Path
    next_repository: Path
    gate: CanaryGate
    questions: Questions
    folder: Path


def prepare(chart: HelmChart, model: Path, folder: Path, next_model: Path | None = None) -> RolloutSubject:
    """Deploys a model and the next one, by default the same file, each in a repository of its own, and renders the
    chart for them. The gate's reference are the answers of ``model``."""
    repositories = (folder / "models", folder / "next_models")
    for repository, source in zip(repositories, (model, next_model or model), strict=True):
        add_to_repository(repository, MODEL, source, read_spec(hosted_format(source), source), MOST_ROWS)
    questions = keep_answers(model, MODEL, folder / "gate")
    atol = TOLERANCES[arithmetic_of(model)]
    own = (f"model.name={MODEL}", f"correctness.batchSize={MOST_ROWS}", f"correctness.atol={atol}")
    rendered = {weight: chart.canary(weight, *own) for weight in WEIGHTS}
    return RolloutSubject(
        template=pod_template(rendered[0], SERVICES[0]),
        routes={weight: route_rules(objects) for weight, objects in rendered.items()},
        repository=repositories[0],
        next_repository=repositories[1],
        gate=CanaryGate(rendered[0], folder / "gate"),
        questions=questions,
        folder=folder,
    )


@contextmanager
def rollout_stage(
    envoy: Path,
    subject: RolloutSubject,
    clients: int,
    least: int,
    requests_per_connection: int = REQUESTS_PER_CONNECTION,
) -> Iterator[RolloutStage]:
    """Two servers of the model behind a gateway, asked by ``clients`` per protocol; each episode has at least ``least``
    requests per protocol."""
    with (
        running_envoy(envoy, SERVICES, subject.folder / "envoy", requests_per_connection) as gateway,
        Fleet(gateway, subject.template, subject.folder / "pods") as fleet,
    ):
        gateway.set_routes(subject.routes[0])
        fleet.start(SERVICES[0], subject.repository, _REPLICAS)
        with constant_load(gateway.http_url, gateway.grpc_url, subject.questions, clients) as load:
            yield RolloutStage(gateway, fleet, load, least)
