"""The decision of Kubernetes' HorizontalPodAutoscaler, simulated: its formula on a real metric.

Source: "Horizontal Pod Autoscaling, Algorithm details" and "Configurable scaling behavior" of Kubernetes'
documentation; for the order of the steps ``pkg/controller/podautoscaler/horizontal.go``. Not simulated: pods that are
not ready or have no metric, several metrics, and the delay of the metrics API.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deployment_toolkit.errors import UsageError

TOLERANCE = 0.1  # of the controller, --horizontal-pod-autoscaler-tolerance
_SUFFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_MOST_UP_DEFAULT = (
    {"type": "Percent", "value": 100, "periodSeconds": 15},
    {"type": "Pods", "value": 4, "periodSeconds": 15},
)
_MOST_DOWN_DEFAULT = ({"type": "Percent", "value": 100, "periodSeconds": 15},)
_STABLE_DOWN_DEFAULT_S = 300.0


@dataclass(frozen=True)
class ScalingRules:
    """One direction of ``behavior``: recommendations of the last ``stabilization_s`` count, and the policies allow so
    many pods, or such a percentage, in a period of seconds each; ``select`` is Max, Min or Disabled."""

    stabilization_s: float
    policies: Sequence[Mapping[str, Any]]
    select: str = "Max"


@dataclass(frozen=True)
class HpaSpec:
    """What a HorizontalPodAutoscaler says of its one metric; ``target`` in the metric's unit."""

    least: int
    most: int
    target: float
    up: ScalingRules
    down: ScalingRules

    @classmethod
    def read(cls, spec: Mapping[str, Any]) -> HpaSpec:
        """Reads the ``spec`` of an object of autoscaling/v2 with one metric whose target is a value of the whole.
        Raises UsageError for another one."""
        behavior = spec.get("behavior", {})
        targets = [one[kind]["target"] for one in spec["metrics"] for kind in ("external", "object") if kind in one]
        if len(targets) != 1 or targets[0]["type"] != "Value":
            raise UsageError("the HorizontalPodAutoscaler has to have one external or object metric with a Value")
        return cls(
            least=spec["minReplicas"],
            most=spec["maxReplicas"],
            target=quantity(targets[0]["value"]),
            up=_rules(behavior.get("scaleUp", {}), 0.0, _MOST_UP_DEFAULT),
            down=_rules(behavior.get("scaleDown", {}), _STABLE_DOWN_DEFAULT_S, _MOST_DOWN_DEFAULT),
        )


def quantity(text: str | int) -> float:
    """Value of a quantity of Kubernetes in decimal notation, as ``10``, ``10m`` or ``1.5k``."""
    number = str(text).rstrip("".join(_SUFFIXES))
    return float(number) * _SUFFIXES[str(text)[len(number) :]]


@dataclass
class Autoscaler:
    """The controller for one deployment. Times are seconds of any clock."""

    spec: HpaSpec
    recommendations: list[tuple[float, int]] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)  # replicas added; removed if negative

    def decide(self, now: float, current: int, metric: float | None) -> int:
        """Replicas that ``current`` should become; the caller makes them so. None is a metric without data: then
        nothing changes."""
        if metric is None:
            return current
        ratio = metric / self.spec.target
        wanted = current if abs(ratio - 1) <= TOLERANCE else math.ceil(current * ratio)
        self.recommendations.append((now, wanted))
        allowed = self._within_policies(now, current, self._stabilized(now, current))
        decided = min(max(allowed, self.spec.least), self.spec.most)
        if decided != current:
            self.changes.append((now, decided - current))
        return decided

    def _stabilized(self, now: float, current: int) -> int:
        """The change that all recommendations of the direction's window agree on."""
        up, down = (
            [wanted for at, wanted in self.recommendations if at >= now - rules.stabilization_s]
            for rules in (self.spec.up, self.spec.down)
        )
        return min(max(current, min(up)), max(down))

    def _within_policies(self, now: float, current: int, wanted: int) -> int:
        if wanted == current:
            return current
        rules = self.spec.up if wanted > current else self.spec.down
        if rules.select == "Disabled":
            return current
        sign = 1 if wanted > current else -1
        limits: list[int] = []
        for policy in rules.policies:
            changed = sum(count for at, count in self.changes if at > now - policy["periodSeconds"])
            begun_with = current - changed
            if policy["type"] == "Pods":
                limits.append(begun_with + sign * policy["value"])
            else:
                share = begun_with * (1 + sign * policy["value"] / 100)
                limits.append(math.ceil(share) if sign > 0 else int(share))
        farthest = (max if sign > 0 else min) if rules.select == "Max" else (min if sign > 0 else max)
        limit = farthest(limits)
        return max(current, min(wanted, limit)) if sign > 0 else min(current, max(wanted, limit))


def _rules(found: Mapping[str, Any], stabilization_s: float, policies: Sequence[Mapping[str, Any]]) -> ScalingRules:
    return ScalingRules(
        float(found.get("stabilizationWindowSeconds", stabilization_s)),
        found.get("policies") or policies,
        found.get("selectPolicy", "Max"),
    )
