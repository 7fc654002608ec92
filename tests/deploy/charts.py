"""Combinations of the chart's values that the tests render, and the pods in what it gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster_tools import NEXT_MODEL_IMAGE, VALUES_CPU, VALUES_NVIDIA

TOOLS_IMAGE = "registry.example.com/wide-deep-tools:1.0"


def sets(**values: str) -> list[str]:
    """``--set`` options; ``__`` in a name is a dot."""
    return [part for name, value in values.items() for part in ("--set", f"{name.replace('__', '.')}={value}")]


GATEWAY = [
    *sets(gateway__enabled="true", gateway__hostnames="{a.example.com}", gateway__grpcHostnames="{grpc.example.com}"),
    *["--set", "gateway.parentRefs[0].name=public"],
]
CANARY = sets(
    canary__enabled="true", canary__model__image=NEXT_MODEL_IMAGE, correctness__image=TOOLS_IMAGE, canary__weight="0"
)
WEIGHT_5 = [*GATEWAY, *CANARY, *sets(canary__weight="5"), "--is-upgrade"]
KEDA = sets(autoscaling__kind="keda")
MONITORING = sets(monitoring__podMonitor="true", monitoring__rules="true", monitoring__dashboard="true")
NO_IMAGE = sets(model__image="")
EGRESS = ["--set-json", 'networkPolicy.egress=[{"ports":[{"port":443},{"port":53,"protocol":"UDP"}]}]']
STORAGE = sets(model__uri=":s3:models/1", model__fetch__secretName="s3")
EXTRAS = [
    *sets(priorityClassName="serving", service__headless="false", topologySpread__whenUnsatisfiable="DoNotSchedule"),
    *sets(topologySpread__minDomains="3", fullnameOverride="recommender"),
    *[
        "--set-json",
        'affinity={"nodeAffinity":{}}',
        "--set-json",
        'tolerations=[{"key":"serving","operator":"Exists"}]',
    ],
    *["--set-json", 'podAnnotations={"team":"ads"}', "--set-json", 'server.env={"A":"1"}'],
    *["--set-json", 'imagePullSecrets=[{"name":"registry"}]', "--set-json", 'nodeSelector={"pool":"serving"}'],
    *["--set-json", 'server.extraArgs=["--log-verbose=1"]', "--set-json", 'service.annotations={"a":"b"}'],
]

# Name, file of values, options, the least minor version of Kubernetes.
COMBINATIONS: tuple[tuple[str, Path, list[str], int], ...] = (
    ("cpu", VALUES_CPU, [], 28),
    ("nvidia", VALUES_NVIDIA, [], 28),
    ("cpu, canary without traffic", VALUES_CPU, CANARY, 28),
    ("cpu, canary with 5 %", VALUES_CPU, [*WEIGHT_5, *MONITORING], 28),
    ("nvidia, canary with 5 %, keda", VALUES_NVIDIA, [*WEIGHT_5, *KEDA, *MONITORING], 28),
    ("image volume", VALUES_CPU, [*WEIGHT_5, *sets(model__delivery="volume")], 33),
    ("claim", VALUES_CPU, [*NO_IMAGE, *sets(model__pvc="models")], 28),
    ("object storage", VALUES_CPU, [*NO_IMAGE, *STORAGE, *EGRESS], 28),
    ("no autoscaling", VALUES_CPU, sets(autoscaling__enabled="false", replicas="3"), 28),
    ("little", VALUES_NVIDIA, sets(networkPolicy__enabled="false", podDisruptionBudget__enabled="false"), 28),
    ("extras", VALUES_NVIDIA, [*WEIGHT_5, *EXTRAS, *sets(gpu__runtimeClassName="nvidia")], 28),
)  # fmt: skip


def pods(objects: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The specifications of pods, with the kinds and names of their objects."""
    for item in objects:
        title = f"{item['kind']} {item['metadata']['name']}"
        if item["kind"] in ("Deployment", "Job"):
            yield title, item["spec"]["template"]["spec"]
        elif item["kind"] == "Pod":
            yield title, item["spec"]


def containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def container(pod: Mapping[str, Any], name: str) -> dict[str, Any]:
    (found,) = [item for item in containers(pod) if item["name"] == name]
    return found
