"""Rolling restart, canary, scale-down and autoscaling of real servers behind a real Envoy, as the rendered chart says.
The kubelet, the gateway's controller and the autoscaler's are simulated. Neither the gateway nor a client retries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.cpp_models import add_to_repository
from benchmarks.rollouts.autoscaling import autoscale
from benchmarks.rollouts.chart import HelmChart, PodTemplate, pod_template
from benchmarks.rollouts.episodes import (
    RolloutEpisode,
    RolloutStage,
    canary,
    rolling_restart,
    scale_down,
    without_pre_stop,
)
from benchmarks.rollouts.gate import MOST_ROWS
from benchmarks.rollouts.pods import ENDPOINT_S, Pod
from benchmarks.rollouts.stage import MODEL, SERVICES, RolloutSubject, prepare, rollout_stage
from benchmarks.rollouts.waiting_model import NAME
from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.errors import ToleranceError
from deployment_toolkit.machine import LOOPBACK
from tests.cluster_tools import ENVOY, HELM, VALUES_CPU, VALUES_NVIDIA, needs_cluster_tools
from tests.prometheus import needs_prometheus, running_prometheus
from tests.proxy_program import needs_haproxy

pytestmark = needs_cluster_tools

REQUESTS = 2500  # per protocol and episode: 5,000 in all
CLIENTS = 4
REQUESTS_PER_CONNECTION = 20  # so that each second has new connections, even on a busy machine
STABLE, NEW = SERVICES
FASTER = 5  # than the chart's own times, in the same relation
SPEC = ModelSpec((TensorSpec("x", "float32", (1,)),), (TensorSpec("wide_deep_model", "float32", (1,)),))


def write(path: Path, factor: float) -> Path:
    """A network that answers ``factor`` * x."""
    tensors = [
        [helper.make_tensor_value_info(one.name, TensorProto.FLOAT, ["batch", 1]) for one in tensors]
        for tensors in (SPEC.inputs, SPEC.outputs)
    ]
    node = helper.make_node("Mul", ["x", "factor"], ["wide_deep_model"])
    weights = [numpy_helper.from_array(np.array([factor], np.float32), "factor")]
    graph = helper.make_graph([node], "small", *tensors, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"model_spec": json.dumps(SPEC.to_dict())})
    onnx.save(model, str(path))
    return path


def own_times(values: Path) -> PodTemplate:
    """What the chart says without being told times."""
    return pod_template(HelmChart(HELM, values=values).render(), STABLE)


def shortened(values: Path, *settings: str) -> HelmChart:
    """The chart with its own times, all shortened."""
    times = own_times(values)
    drain_s = times.pre_stop_s - times.proxy_pre_stop_s if times.proxy else 0
    seconds = {
        "drain.preStopSeconds": times.pre_stop_s - drain_s,
        "server.exitTimeoutSeconds": times.exit_timeout_s,
        "terminationGracePeriodSeconds": times.grace_s,
        "drain.marginSeconds": 10,
        **({"proxy.drainSeconds": drain_s} if times.proxy else {}),
    }
    times_as_set = [f"{name}={round(value / FASTER)}" for name, value in seconds.items()]
    return HelmChart(HELM, (*settings, *times_as_set), values)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> RolloutSubject:
    folder = tmp_path_factory.mktemp("rollouts")
    return prepare(shortened(VALUES_NVIDIA), write(folder / "right.onnx", 0.5), folder / "subject")


@pytest.fixture(scope="module")
def stage(subject: RolloutSubject) -> Iterator[RolloutStage]:
    """Two servers under load, as in values-nvidia.yaml, without a proxy in their pods."""
    with rollout_stage(ENVOY, subject, CLIENTS, REQUESTS, REQUESTS_PER_CONNECTION) as stage:
        yield stage


def require_no_loss(episodes: list[RolloutEpisode]) -> None:
    for one in episodes:
        assert (one.http_lost, one.grpc_lost, one.wrong, one.killed) == (0, 0, 0, 0), one
    assert sum(one.http_answered for one in episodes) >= REQUESTS
    assert sum(one.grpc_answered for one in episodes) >= REQUESTS


def test_times_are_the_charts(subject: RolloutSubject) -> None:
    own, short = own_times(VALUES_NVIDIA), subject.template
    shortened_times = (short.pre_stop_s, short.exit_timeout_s, short.grace_s)
    assert shortened_times == tuple(round(each / FASTER) for each in (own.pre_stop_s, own.exit_timeout_s, own.grace_s))
    assert own.pre_stop_s > ENDPOINT_S and own.grace_s > own.pre_stop_s + own.exit_timeout_s
    assert short.readiness_path == f"/v2/models/{MODEL}/ready"
    assert f"--exit-timeout-secs={short.exit_timeout_s}" in short.arguments


def test_rolling_restart_loses_nothing(stage: RolloutStage, subject: RolloutSubject) -> None:
    before = stage.fleet.pods(STABLE)
    rolling_restart(stage, STABLE, subject.repository, subject.template.surge)
    after = stage.fleet.pods(STABLE)
    assert len(after) == 2 and not set(before) & set(after)
    assert all(pod.has_ended for pod in before)
    assert stage.episodes[-1].pods_ended == 2
    require_no_loss(stage.episodes[-1:])


def test_canary_gets_requests_only_after_the_gate(
    stage: RolloutStage, subject: RolloutSubject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "least", 500)  # in each of its parts
    add_to_repository(tmp_path / "wrong", MODEL, write(tmp_path / "wrong.onnx", 0.51), SPEC, MOST_ROWS)
    first = len(stage.episodes)
    surge = subject.template.surge
    with pytest.raises(ToleranceError, match=r"\d+ of 512 rows differ by more than"):
        canary(stage, SERVICES, tmp_path / "wrong", subject.gate.check, subject.routes, surge)
    refused = stage.episodes[-1]
    assert (refused.share, refused.pods_ended) == (0, 1)

    canary(stage, SERVICES, subject.next_repository, subject.gate.check, subject.routes, surge)
    require_no_loss(stage.episodes[first:])
    shares = [one.share for one in stage.episodes[first + 1 :]]
    assert shares[0] == 0
    assert shares[1] is not None and 0.02 < shares[1] < 0.09
    assert shares[2] is not None and 0.43 < shares[2] < 0.57
    assert {pod.repository for pod in stage.fleet.pods(STABLE)} == {subject.next_repository}
    assert stage.fleet.pods(NEW) == []


def test_scale_down_loses_nothing(stage: RolloutStage, subject: RolloutSubject) -> None:
    stage.fleet.start(STABLE, subject.repository)
    assert len(stage.fleet.pods(STABLE)) == 3
    scale_down(stage, STABLE, 2)
    assert len(stage.fleet.pods(STABLE)) == 2
    assert stage.episodes[-1].pods_ended == 1
    require_no_loss(stage.episodes[-1:])


def test_same_restart_without_pre_stop_loses_requests(stage: RolloutStage, subject: RolloutSubject) -> None:
    without_pre_stop(stage, STABLE, subject.repository, subject.template.surge)
    assert stage.episodes[-1].lost > 0
    with pytest.raises(AssertionError):
        require_no_loss(stage.episodes[-1:])
    assert stage.fleet.template == subject.template


@needs_haproxy
def test_rolling_restart_behind_the_proxy_of_each_pod_loses_nothing(tmp_path: Path) -> None:
    """The pods of values-cpu.yaml: the proxy ends first, then the server."""
    subject = prepare(shortened(VALUES_CPU), write(tmp_path / "right.onnx", 0.5), tmp_path / "subject")
    assert subject.template.pre_stop_s > subject.template.proxy_pre_stop_s > ENDPOINT_S
    with rollout_stage(ENVOY, subject, CLIENTS, REQUESTS, REQUESTS_PER_CONNECTION) as stage:
        assert all(len(pod.containers) == 2 for pod in stage.fleet.pods(STABLE))
        rolling_restart(stage, STABLE, subject.repository, subject.template.surge)
        require_no_loss(stage.episodes)


@needs_prometheus
def test_simulated_autoscaler_follows_the_queue_and_loses_nothing(tmp_path: Path) -> None:
    chart = shortened(
        VALUES_NVIDIA,
        "autoscaling.maxReplicas=4",
        "autoscaling.scaleDownStabilizationSeconds=60",
        "autoscaling.prometheus.window=5s",
    )
    (scaled,) = [
        one for one in chart.render("autoscaling.kind=keda", f"model.name={NAME}") if one["kind"] == "ScaledObject"
    ]
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    # Labels that a PodMonitor adds to a pod's series.
    query = re.sub(r'(namespace|release|track)="[^"]*",', "", query)
    rules = tmp_path / "rules.yaml"
    rules.write_text("groups: []\n")
    with running_prometheus(tmp_path, rules) as prometheus:

        def metric(now: float, pods: list[Pod]) -> float | None:
            prometheus.scrape({pod.name: f"{LOOPBACK}:{pod.ports['metrics']}" for pod in pods})
            return prometheus.value(query)

        episode, steps = autoscale(chart, ENVOY, tmp_path / "scaling", 120.0, 500, metric)
    assert (episode.lost, episode.wrong, episode.killed) == (0, 0, 0), episode
    most = max(step.decided for step in steps)
    assert most > 2 and steps[0].replicas == 2 and steps[-1].decided == 2, steps
    assert episode.pods_ended == most - 2
