"""What the Helm chart of deploy/kubernetes says, rendered by Helm: how a pod is started and ended, the weights of the
routes, the autoscaler."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.rollouts.autoscaler import HpaSpec
from benchmarks.rollouts.envoy import RouteRule
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import UsageError
from deployment_toolkit.process import environment, run

CHART = ROOT / "deploy" / "kubernetes"
_IMAGES = "registry.example.com/none@sha256:" + 64 * "0"  # nothing is pulled
_TIMEOUT_S = 60.0
_WINDOW = re.compile(r"\[(\d+)([smh])\]")
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_SERVER, _PROXY = "triton", "proxy"  # containers of a pod
_EXIT_TIMEOUT = "--exit-timeout-secs="

Objects = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class PodTemplate:
    """How the chart starts and ends a server: its arguments, with the chart's ports and folder; the configuration of
    the proxy before it, empty without one; the path that tells whether it is ready; the seconds of preStop of both, of
    ``--exit-timeout-secs`` (the last one counts) and of the grace period; and how many pods a rolling update may
    add."""

    arguments: tuple[str, ...]
    proxy: str
    readiness_path: str
    pre_stop_s: float
    proxy_pre_stop_s: float
    exit_timeout_s: int
    grace_s: float
    surge: int

    def without_pre_stop(self) -> PodTemplate:
        """The same, but each program is told to end as soon as the pod is deleted."""
        return replace(self, pre_stop_s=0.0, proxy_pre_stop_s=0.0)


class HelmChart:
    """The chart with a file of values and these settings (``--set``) in each rendering, and a gateway."""

    def __init__(self, helm: Path, settings: Sequence[str] = (), values: Path | None = None) -> None:
        self._helm, self._values = helm, values
        own = [f"image={_IMAGES}", f"model.image={_IMAGES}"]
        route = ("gateway.enabled=true", "gateway.parentRefs[0].name=gateway", "gateway.grpcHostnames={grpc.test}")
        self._settings = (*own, *route, "gateway.hostnames={http.test}", *settings)

    def render(self, *settings: str) -> Objects:
        """The objects with these settings too. Raises ProcessError with Helm's message if it refuses them."""
        command: list[str | Path] = [self._helm, "template", "--is-upgrade", "wide-deep", CHART]
        if self._values is not None:
            command += ["--values", self._values]
        for setting in (*self._settings, *settings):
            # --set makes a text of a number with a fraction.
            number = _NUMBER.fullmatch(setting.partition("=")[2])
            command += ["--set-json" if number else "--set", setting]
        with tempfile.TemporaryDirectory() as own:
            folders = {f"HELM_{name}_HOME": own for name in ("CACHE", "CONFIG", "DATA")}
            env = environment(prepend={}) | folders
            text = run(command, env=env, timeout_s=_TIMEOUT_S, log_path=Path(own) / "helm.log").stdout
        return [item for item in yaml.safe_load_all(text) if item]

    def canary(self, weight: int, *more: str) -> Objects:
        """The objects with a canary that gets ``weight`` per cent of the requests, and more settings."""
        settings = ["canary.enabled=true", f"canary.model.image={_IMAGES}", f"canary.weight={weight}"]
        return self.render(*settings, f"correctness.image={_IMAGES}", *more)


def pod_template(objects: Objects, name: str) -> PodTemplate:
    """Reads the Deployment ``name`` and the configuration of its proxy, if it has one. Raises UsageError for one that
    is not simulated here: other containers, a preStop other than ``sleep``, or a rolling update that takes pods away
    first."""
    spec = _one(objects, "Deployment", name)["spec"]
    rolling = spec["strategy"]["rollingUpdate"]
    if rolling["maxUnavailable"] != 0 or not isinstance(rolling["maxSurge"], int):
        raise UsageError(f"Deployment {name}: a rolling update with {rolling} is not simulated here")
    pod = spec["template"]["spec"]
    containers = {one["name"]: one for one in pod["containers"]}
    if not {_SERVER} <= containers.keys() <= {_SERVER, _PROXY}:
        raise UsageError(f"Deployment {name}: a pod of {sorted(containers)} is not simulated here")
    server, proxy = containers[_SERVER], containers.get(_PROXY, {})
    timeouts = [text.removeprefix(_EXIT_TIMEOUT) for text in server["args"] if text.startswith(_EXIT_TIMEOUT)]
    return PodTemplate(
        arguments=tuple(server["args"]),
        proxy=_one(objects, "ConfigMap", f"{name}-proxy")["data"]["haproxy.cfg"] if proxy else "",
        readiness_path=server["readinessProbe"]["httpGet"]["path"],
        pre_stop_s=_pre_stop_s(server),
        proxy_pre_stop_s=_pre_stop_s(proxy),
        exit_timeout_s=int(timeouts[-1]),
        grace_s=pod["terminationGracePeriodSeconds"],
        surge=rolling["maxSurge"],
    )


def _pre_stop_s(container: Mapping[str, Any]) -> float:
    action = container.get("lifecycle", {}).get("preStop", {"sleep": {"seconds": 0}})
    if action.keys() != {"sleep"}:
        raise UsageError(f"container {container['name']}: the preStop action {action} is not simulated here")
    return float(action["sleep"]["seconds"])


def route_rules(objects: Objects) -> list[RouteRule]:
    """Rules of the HTTPRoute and the GRPCRoute. Raises UsageError for a match that is not exact."""
    http = _one(objects, "HTTPRoute")["spec"]["rules"]
    rules = [_rule("http", rule, [_http_match(one) for one in rule["matches"]]) for rule in http]
    grpc = _one(objects, "GRPCRoute")["spec"]["rules"]
    return [*rules, *(_rule("grpc", rule, [_grpc_match(one) for one in rule["matches"]]) for rule in grpc)]


def _rule(protocol: str, rule: Mapping[str, Any], matches: Sequence[tuple[str, str | None]]) -> RouteRule:
    weights = {one["name"]: one.get("weight", 1) for one in rule["backendRefs"]}
    return RouteRule(protocol, tuple(matches), weights, rule.get("timeouts", {}).get("request"))


def _http_match(match: Mapping[str, Any]) -> tuple[str, str | None]:
    if match["path"]["type"] != "Exact":
        raise UsageError(f"a route with the match {match} is not simulated here")
    return match["path"]["value"], match.get("method")


def _grpc_match(match: Mapping[str, Any]) -> tuple[str, str | None]:
    method = match["method"]
    if method.get("type", "Exact") != "Exact" or not {"service", "method"} <= method.keys():
        raise UsageError(f"a route with the match {match} is not simulated here")
    return f"/{method['service']}/{method['method']}", None


def autoscaler(objects: Objects) -> HpaSpec:
    """Reads the only HorizontalPodAutoscaler."""
    return HpaSpec.read(_one(objects, "HorizontalPodAutoscaler")["spec"])


def queue_window_s(objects: Objects) -> float:
    """Seconds of the window of the query by which the only ScaledObject of KEDA asks Prometheus."""
    (trigger,) = _one(objects, "ScaledObject")["spec"]["triggers"]
    (window,) = set(_WINDOW.findall(trigger["metadata"]["query"]))
    return float(window[0]) * _SECONDS[window[1]]


def gate_pod(objects: Objects) -> Mapping[str, Any]:
    """The ``spec`` of the pod that ``helm test`` starts."""
    found = [one for one in objects if one["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"]
    if len(found) != 1:
        raise UsageError(f"the chart gives {len(found)} tests, one is simulated here")
    spec: Mapping[str, Any] = found[0]["spec"]
    return spec


def _one(objects: Objects, kind: str, name: str | None = None) -> Mapping[str, Any]:
    found = [one for one in objects if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    if len(found) != 1:
        raise UsageError(f"the chart gives {len(found)} objects of kind {kind}{f' and name {name}' if name else ''}")
    return found[0]
