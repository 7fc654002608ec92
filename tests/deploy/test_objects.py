"""Every object that the chart renders, and those for KServe, against Kubernetes' own schemas, and against the types of
the projects whose objects they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from tests.cluster_tools import HOME, PYTHON, needs_cluster_tools, one, render
from tests.deploy.charts import COMBINATIONS
from tests.kserve_fields import KServeFields

pytestmark = needs_cluster_tools
Objects = list[dict[str, Any]]
NEWEST = 37
OLDEST = 28
NODE = HOME / "node" / "node_modules"
TYPES = {
    "HTTPRoute": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute",
    "GRPCRoute": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/GRPCRoute",
    "ScaledObject": "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject",
    "PodMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor",
    "PrometheusRule": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule",
}
# In the environment of the tools. An object without a schema, which the program only warns of, is an error here.
CHECK = """
import json, sys
import kubernetes_validate
for version, title, item in json.load(sys.stdin):
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except Exception as error:
        print(version, title, item["kind"], item["metadata"]["name"], type(error).__name__, error.message if hasattr(error, "message") else error)
"""  # noqa: E501
needs_types = pytest.mark.skipif(
    not NODE.exists() and os.environ.get("CI") != "true", reason="no npm when scripts/install_cluster_tools.sh ran"
)


def problems(items: Iterable[tuple[str, str, dict[str, Any]]]) -> str:
    """What the strict check finds in objects, each with a version of Kubernetes and a title; nothing if all is well."""
    told = json.dumps(list(items))
    done = subprocess.run([PYTHON, "-c", CHECK], input=told, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def rendered() -> dict[tuple[str, int], Objects]:
    """Objects by name of the combination and the minor version for which they were rendered: the oldest of its own, and
    the newest. From 1.30 on nothing that is rendered depends on the version."""
    found = {}
    for name, values, options, least in COMBINATIONS:
        for minor in (least, NEWEST):
            found[name, minor] = render(*options, values=values, kube_version=f"1.{minor}.0")
    return found


def test_objects_are_valid_for_every_version(rendered: dict[tuple[str, int], Objects]) -> None:
    asked: dict[str, tuple[str, str, dict[str, Any]]] = {}
    kinds = set()
    for (name, made_for), objects in rendered.items():
        versions = range(OLDEST, 30) if made_for < 30 else range(max(30, least_of(name)), NEWEST + 1)
        for item in objects:
            kinds.add(item["kind"])
            if item["kind"] not in TYPES:
                for minor in versions:
                    asked[f"{minor} {json.dumps(item)}"] = (f"1.{minor}.0", name, item)
    assert problems(asked.values()) == ""
    assert kinds - TYPES.keys() == {
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Job", "NetworkPolicy", "Pod", "PodDisruptionBudget",
        "Service", "ServiceAccount",
    }  # fmt: skip
    assert TYPES.keys() <= kinds


def least_of(name: str) -> int:
    (least,) = [least for other, _, _, least in COMBINATIONS if other == name]
    return least


def test_check_finds_unknown_fields_and_versions_that_are_gone() -> None:
    objects = render()
    budget, scaler = one(objects, "PodDisruptionBudget"), one(objects, "HorizontalPodAutoscaler")
    budget["spec"]["maxUnavailabel"] = 1
    scaler["apiVersion"] = "autoscaling/v2beta2"
    found = problems([("1.37.0", "", budget), ("1.37.0", "", scaler)])
    assert "maxUnavailabel" in found and "v2beta2" in found


def compile_objects(objects: Objects, folder: Path) -> subprocess.CompletedProcess[str]:
    """Compiles the objects of other projects as constants of their types, for which unknown fields are errors, and
    validates them by their schemas."""
    folder.mkdir(exist_ok=True)
    (folder / "node_modules").symlink_to(NODE)
    lines = [
        f'import {{ {kind} }} from "{module}";\nconst all{kind}: ConstructorParameters<typeof {kind}>[0][] = '
        f"{json.dumps([{key: item[key] for key in item if key not in ('apiVersion', 'kind')} for item in found])};\n"
        f"all{kind}.forEach((item) => new {kind}(item).validate());\n"
        for kind, module in TYPES.items()
        if (found := [item for item in objects if item["kind"] == kind])
    ]
    (folder / "objects.ts").write_text("".join(lines))
    (folder / "package.json").write_text('{"type": "module"}')
    node = shutil.which("node")
    assert node is not None
    options = ["--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022"]
    compiler = [node, str(NODE / "typescript" / "bin" / "tsc"), *options, "objects.ts"]
    done = subprocess.run(compiler, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        return done
    return subprocess.run([node, "objects.js"], cwd=folder, capture_output=True, text=True)


@needs_types
def test_objects_of_other_projects_have_their_types(rendered: dict[tuple[str, int], Objects], tmp_path: Path) -> None:
    objects = [item for found in rendered.values() for item in found if item["kind"] in TYPES]
    for item in objects:
        assert TYPES[item["kind"]].endswith(f"/{item['apiVersion']}/{item['kind']}")
    done = compile_objects(objects, tmp_path / "right")
    assert done.returncode == 0, done.stdout + done.stderr
    objects[0]["spec"]["parentRef"] = []
    done = compile_objects(objects[:1], tmp_path / "wrong")
    assert done.returncode != 0 and "parentRef" in done.stdout


def kserve_objects() -> Objects:
    """The runtime and the service."""
    files = ("serving-runtime.yaml", "inference-service.yaml")
    return [yaml.safe_load((ROOT / "deploy" / "kserve" / name).read_text()) for name in files]


def test_objects_for_kserve_have_its_fields() -> None:
    (models,) = HOME.glob("lib/python*/site-packages/kserve/models")
    fields = KServeFields(models)
    runtime, service = kserve_objects()
    assert [fields.problems(item) for item in (runtime, service)] == [[], []]
    service["spec"]["predictor"]["minReplica"] = 2
    service["spec"]["predictor"]["model"]["modelFormat"]["version"] = 1
    runtime["spec"]["supportedModelFormats"][0]["prio"] = 1
    assert [fields.problems(item) for item in (runtime, service)] == [
        ["ServingRuntime.spec.supportedModelFormats[0] has no field prio"],
        [
            "InferenceService.spec.predictor.model.modelFormat.version is 1, no str",
            "InferenceService.spec.predictor has no field minReplica",
        ],
    ]


def test_pods_of_kserve_are_valid() -> None:
    runtime, service = kserve_objects()
    predictor = service["spec"]["predictor"]
    assert predictor["model"]["runtime"] == runtime["metadata"]["name"]
    assert predictor["model"]["modelFormat"] in runtime["spec"]["supportedModelFormats"]
    (server,) = runtime["spec"]["containers"]
    (exit_timeout,) = [int(item.partition("=")[2]) for item in server["args"] if "exit-timeout" in item]
    pause = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert predictor["terminationGracePeriodSeconds"] > pause + exit_timeout + 10
    pod = {key: runtime["spec"][key] for key in ("containers", "volumes")}
    pod["containers"] = [server, {**server, "name": "service", "resources": predictor["model"]["resources"]}]
    pod |= {key: predictor[key] for key in ("terminationGracePeriodSeconds", "automountServiceAccountToken")}
    assert predictor["deploymentStrategy"]["rollingUpdate"]["maxUnavailable"] == 0
    labels = {"app": "kserve"}
    spec = {"selector": {"matchLabels": labels}, "strategy": predictor["deploymentStrategy"]}
    spec["template"] = {"metadata": {"labels": labels}, "spec": pod}
    item = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "kserve"}, "spec": spec}
    assert problems([(f"1.{minor}.0", "kserve", item) for minor in range(30, NEWEST + 1)]) == ""
