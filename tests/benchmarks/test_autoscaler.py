"""The autoscaler's decisions, against examples of Kubernetes' documentation and numbers worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks.rollouts.autoscaler import Autoscaler, HpaSpec, ScalingRules, quantity
from benchmarks.rollouts.queue_time import QueueTime
from deployment_toolkit.errors import UsageError

ANY = ({"type": "Percent", "value": 100, "periodSeconds": 15}, {"type": "Pods", "value": 100, "periodSeconds": 15})


def spec(up: ScalingRules | None = None, down: ScalingRules | None = None, most: int = 100) -> HpaSpec:
    free = ScalingRules(0, ANY)
    return HpaSpec(1, most, 10.0, up or free, down or free)


@pytest.mark.parametrize(
    ("current", "metric", "wanted"),
    [
        (2, 20.0, 4),
        (2, 5.0, 1),
        (3, 10.9, 3),  # within a tenth
        (3, 11.2, 4),
        (4, 9.1, 4),
        (4, 8.9, 4),  # 3.56 is rounded up
        (4, 0.0, 1),
        (2, None, 2),
        (60, 30.0, 100),
    ],
)
def test_formula(current: int, metric: float | None, wanted: int) -> None:
    assert Autoscaler(spec()).decide(0, current, metric) == wanted


def test_highest_recommendation_of_the_window_counts_on_the_way_down() -> None:
    scaler = Autoscaler(spec(down=ScalingRules(300, ANY)))
    assert scaler.decide(0, 4, 20.0) == 8
    assert scaler.decide(15, 8, 1.0) == 8, "eight were recommended 15 s ago"
    assert scaler.decide(290, 8, 5.0) == 8
    assert scaler.decide(316, 8, 1.0) == 4, "four were recommended 26 s ago"
    assert scaler.decide(700, 4, 1.0) == 1


def test_lowest_recommendation_of_the_window_counts_on_the_way_up() -> None:
    scaler = Autoscaler(spec(up=ScalingRules(60, ANY)))
    assert scaler.decide(0, 2, 10.0) == 2
    assert scaler.decide(30, 2, 40.0) == 2
    assert scaler.decide(61, 2, 30.0) == 6, "the least of 8 and 6"


def test_policies_limit_the_change_in_a_period() -> None:
    """ "at most 4 pods or 10 % within a minute, whichever is more" takes 80 to 72, then to 68 within another."""
    policies = (
        {"type": "Pods", "value": 4, "periodSeconds": 60},
        {"type": "Percent", "value": 10, "periodSeconds": 60},
    )
    scaler = Autoscaler(spec(down=ScalingRules(0, policies)))
    assert scaler.decide(0, 80, 0.1) == 72
    assert scaler.decide(30, 72, 0.1) == 72
    assert scaler.decide(61, 72, 0.1) == 64
    assert scaler.decide(130, 40, 0.1) == 36, "ten per cent are four"
    assert Autoscaler(spec(down=ScalingRules(0, policies, "Min"))).decide(0, 80, 0.1) == 76
    assert Autoscaler(spec(down=ScalingRules(0, policies, "Disabled"))).decide(0, 80, 0.1) == 80


def test_spec_is_read_from_the_object() -> None:
    target = {"type": "Value", "value": "10500m"}
    found = HpaSpec.read(
        {
            "minReplicas": 2,
            "maxReplicas": 8,
            "metrics": [{"type": "External", "external": {"metric": {"name": "queue"}, "target": target}}],
            "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 30}]}},
        }
    )
    assert (found.least, found.most, found.target) == (2, 8, 10.5)
    assert found.up == ScalingRules(0.0, [{"type": "Pods", "value": 4, "periodSeconds": 30}])
    assert found.down.stabilization_s == 300, "Kubernetes' default"
    with pytest.raises(UsageError, match="one external or object metric"):
        HpaSpec.read({"minReplicas": 2, "maxReplicas": 8, "metrics": [{"type": "Resource", "resource": {}}]})


def test_quantities() -> None:
    assert [quantity(text) for text in ("10", "10m", "1.5k", 3)] == [10, 0.01, 1500, 3]


def test_queue_time_is_weighted_by_requests() -> None:
    def text(queue_us: int, requests: int) -> str:
        of = '{model="one",version="1"}'
        other = 'nv_inference_queue_duration_us{model="other",version="1"} 7e9\n'
        return f"{other}nv_inference_queue_duration_us{of} {queue_us}\nnv_inference_request_success{of} {requests}\n"

    queue = QueueTime("one", 60)
    assert queue.add(0, {"a": text(0, 0), "b": text(5000, 5)}) is None
    assert queue.add(30, {"a": text(900_000, 90), "b": text(5000, 5)}) == 10.0
    assert queue.add(60, {"a": text(900_000, 90), "b": text(105_000, 15)}) == 10.0, "not the mean of two means"
    assert queue.add(80, {"b": text(105_000, 15), "c": text(0, 0)}) == 10.0
    assert queue.add(170, {"c": text(0, 0)}) is None, "older samples are forgotten"
    assert queue.add(180, {"c": text(0, 0)}) == 0.0
    waiting = 'nv_inference_pending_request_count{model="one",version="1"} 3\n'
    assert queue.add(190, {"c": text(0, 0) + waiting}) is None, "servers that hang must not be taken away"
