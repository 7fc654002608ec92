"""The Helm chart deploy/kubernetes: what it renders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster_tools import (
    CHART,
    MODEL_IMAGE,
    NEXT_MODEL_IMAGE,
    SERVER_IMAGE,
    VALUES_CPU,
    VALUES_NVIDIA,
    helm,
    needs_cluster_tools,
    one,
    render,
)
from tests.deploy.charts import (
    CANARY,
    COMBINATIONS,
    GATEWAY,
    KEDA,
    MONITORING,
    NO_IMAGE,
    WEIGHT_5,
    container,
    containers,
    pods,
    sets,
)

pytestmark = needs_cluster_tools
Objects = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rendered() -> dict[str, Objects]:
    """The objects of every combination, by its name."""
    return {name: render(*options, values=values) for name, values, options, _ in COMBINATIONS}


@pytest.mark.parametrize("values", [VALUES_CPU, VALUES_NVIDIA], ids=lambda path: path.stem)
def test_chart_passes_lint(values: Path) -> None:
    done = helm("lint", "--strict", CHART, "--values", values, *sets(image=SERVER_IMAGE, model__image=MODEL_IMAGE))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


def test_every_container_is_bounded_and_unprivileged(rendered: dict[str, Objects]) -> None:
    seen = set()
    for name, objects in rendered.items():
        for title, pod in pods(objects):
            where = f"{name}: {title}"
            assert pod["automountServiceAccountToken"] is False, where
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
            for item in containers(pod):
                seen.add(item["name"])
                resources, security = item["resources"], item["securityContext"]
                assert {"cpu", "memory"} <= resources["limits"].keys(), (where, item["name"])
                assert resources["requests"] == resources["limits"], (where, item["name"])
                assert security["runAsNonRoot"] and security["runAsUser"] > 0, (where, item["name"])
                assert security["readOnlyRootFilesystem"] is True, (where, item["name"])
                assert security["allowPrivilegeEscalation"] is False, (where, item["name"])
                assert security["capabilities"] == {"drop": ["ALL"]}, (where, item["name"])
                assert re.search(r":(?!latest)[\w.-]+$|@sha256:[0-9a-f]{64}$", item["image"]), (where, item["image"])
    assert seen == {"triton", "proxy", "model", "grpc", "http", "compare"}


def test_servers_have_whole_cores(rendered: dict[str, Objects]) -> None:
    for objects in rendered.values():
        for title, pod in pods(objects):
            if title.startswith("Deployment"):
                assert container(pod, "triton")["resources"]["limits"]["cpu"].isdecimal()


def test_stop_takes_less_than_the_grace(rendered: dict[str, Objects]) -> None:
    for name, objects in rendered.items():
        for title, pod in pods(objects):
            if not title.startswith("Deployment"):
                continue
            server = container(pod, "triton")
            pause = server["lifecycle"]["preStop"]["sleep"]["seconds"]
            (exit_timeout,) = [int(item.partition("=")[2]) for item in server["args"] if "exit-timeout" in item]
            assert pod["terminationGracePeriodSeconds"] > pause + exit_timeout + 10, name
            for item in pod["containers"]:
                if item["name"] == "proxy":  # the proxy ends first, and the server answers what it still has
                    assert 15 == item["lifecycle"]["preStop"]["sleep"]["seconds"] < pause


def test_pause_before_the_end_is_a_command_where_there_is_no_action() -> None:
    ((_, pod),) = pods(render(kube_version="1.29.0"))
    assert container(pod, "triton")["lifecycle"]["preStop"] == {"exec": {"command": ["sleep", "20"]}}
    ((_, pod),) = pods(render(*sets(drain__preStopSeconds="0"), values=VALUES_NVIDIA))
    assert "lifecycle" not in container(pod, "triton")


def test_probes_ask_for_the_model() -> None:
    ((_, pod),) = pods(render(*sets(model__name="Other")))
    server = container(pod, "triton")
    for probe in ("startupProbe", "readinessProbe"):
        assert server[probe]["httpGet"] == {"path": "/v2/models/Other/ready", "port": 8000}
    alive = server["livenessProbe"]
    assert alive["httpGet"]["path"] == "/v2/health/live"
    assert alive["periodSeconds"] * alive["failureThreshold"] >= 60


def test_server_serves_the_models_that_are_there_and_nothing_else() -> None:
    ((_, pod),) = pods(render(values=VALUES_NVIDIA))
    server = container(pod, "triton")
    assert "--model-control-mode=none" in server["args"]
    (mount,) = [item for item in server["volumeMounts"] if item["name"] == "model"]
    assert mount["readOnly"] is True


def test_embedded_server_listens_on_loopback_behind_the_proxy() -> None:
    objects = render()
    ((_, pod),) = pods(objects)
    server, proxy = container(pod, "triton"), container(pod, "proxy")
    assert {f"--{name}-address=127.0.0.1" for name in ("http", "grpc", "metrics")} <= set(server["args"])
    assert "ports" not in server
    assert [item["containerPort"] for item in proxy["ports"]] == [8000, 8001, 8002]
    told = one(objects, "ConfigMap")["data"]["haproxy.cfg"]
    assert "{{" not in told and "server triton 127.0.0.1:9000" in told


def test_nvidia_server_has_gpus_and_no_proxy() -> None:
    ((_, pod),) = pods(render(values=VALUES_NVIDIA))
    assert [item["name"] for item in pod["containers"]] == ["triton"]
    assert container(pod, "triton")["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("options", "volume", "copied"),
    [
        ([], {"emptyDir": {"sizeLimit": "4Gi"}}, True),
        (sets(model__delivery="volume"), {"image": {"reference": MODEL_IMAGE, "pullPolicy": "IfNotPresent"}}, False),
        ([*NO_IMAGE, *sets(model__pvc="m")], {"persistentVolumeClaim": {"claimName": "m", "readOnly": True}}, False),
    ],
    ids=["copy", "volume", "claim"],
)
def test_model_comes_in_one_way(options: list[str], volume: dict[str, Any], copied: bool) -> None:
    ((_, pod),) = pods(render(*options))
    (found,) = [item for item in pod["volumes"] if item["name"] == "model"]
    assert found == {"name": "model", **volume}
    assert [item["image"] for item in pod.get("initContainers", [])] == [MODEL_IMAGE] * copied


def weights(objects: Objects) -> dict[str, dict[str, int]]:
    """Weight of each Service, by the kind of the route."""
    return {
        item["kind"]: {end["name"]: end["weight"] for rule in item["spec"]["rules"] for end in rule["backendRefs"]}
        for item in objects
        if item["kind"] in ("HTTPRoute", "GRPCRoute")
    }


def test_canary_has_its_part_of_both_routes() -> None:
    both = {"wide-deep": 95, "wide-deep-canary": 5}
    assert weights(render(*WEIGHT_5)) == {"HTTPRoute": both, "GRPCRoute": both}
    objects = render(*WEIGHT_5)
    (before, after) = (one(objects, "Deployment", name) for name in ("wide-deep", "wide-deep-canary"))
    images = [item["spec"]["template"]["spec"]["initContainers"][0]["image"] for item in (before, after)]
    assert images == [MODEL_IMAGE, NEXT_MODEL_IMAGE]
    chosen = [one(objects, "Service", name)["spec"]["selector"] for name in ("wide-deep", "wide-deep-canary")]
    assert [item["wide-deep/track"] for item in chosen] == ["stable", "canary"]


def test_routes_have_names_of_their_own() -> None:
    names = {item["kind"]: item["spec"].get("hostnames") for item in render(*GATEWAY) if item["kind"].endswith("Route")}
    assert names == {"HTTPRoute": ["a.example.com"], "GRPCRoute": ["grpc.example.com"]}
    alone = one(render(*GATEWAY, *sets(gateway__http="false", gateway__grpcHostnames="null")), "GRPCRoute")
    assert alone["spec"]["hostnames"] == ["a.example.com"]


def test_routes_and_service_of_a_canary_stay_when_it_goes() -> None:
    objects = render(*GATEWAY)
    assert weights(objects)["HTTPRoute"] == {"wide-deep": 100, "wide-deep-canary": 0}
    assert one(objects, "Service", "wide-deep-canary")


def test_routes_pass_inference_metadata_and_health_only() -> None:
    objects = render(*GATEWAY)
    rules = one(objects, "HTTPRoute")["spec"]["rules"]
    assert all(len(rule["matches"]) <= 8 for rule in rules)  # the API's limit
    paths = {(match["method"], match["path"]["value"]) for rule in rules for match in rule["matches"]}
    assert all(match["path"]["type"] == "Exact" for rule in rules for match in rule["matches"])
    assert ("POST", "/v2/models/WidenDeep/infer") in paths and len([path for path in paths if path[0] == "POST"]) == 2
    (rule,) = one(objects, "GRPCRoute")["spec"]["rules"]
    methods = {match["method"]["method"] for match in rule["matches"]}
    assert "ModelInfer" in methods and not {name for name in methods if re.search("Repository|Shared|Trace|Log", name)}


def test_gate_asks_the_canary_before_it_has_traffic() -> None:
    objects = render(*WEIGHT_5)
    job = one(objects, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade"
    test = one(objects, "Pod")
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    for service, pod in (("wide-deep-gate", job["spec"]["template"]["spec"]), ("wide-deep-canary", test["spec"])):
        assert [item["name"] for item in containers(pod)] == ["model", "grpc", "http", "compare"]
        assert container(pod, "model")["image"] == NEXT_MODEL_IMAGE
        assert f"--server-url=grpc://{service}:8001" in container(pod, "grpc")["command"]
        assert one(objects, "Service", service)
    assert not [item for item in render(*CANARY) if item["kind"] == "Job"]


@pytest.mark.parametrize(
    ("options", "alike"),
    [
        (sets(canary__weight="50", canary__replicas="3", resources__memory="8Gi"), True),
        (sets(canary__model__image=MODEL_IMAGE), False),
        (sets(canary__image="registry.example.com/wide-deep-serving:2.0"), False),
        (["--set-json", 'server.extraArgs=["--log-verbose=1"]'], False),
    ],
    ids=["weight", "model", "server", "options"],
)
def test_gate_asks_pods_that_it_has_seen_before_or_none(options: list[str], alike: bool) -> None:
    """The hook runs before the canary's pods are changed: it must not ask those of the canary before."""
    running = one(render(*WEIGHT_5), "Deployment", "wide-deep-canary")["spec"]["template"]["metadata"]["labels"]
    chosen = one(render(*WEIGHT_5, *options), "Service", "wide-deep-gate")["spec"]["selector"]
    assert (chosen.items() <= running.items()) is alike


def test_gate_asks_what_serves_without_a_canary() -> None:
    pod = one(render(*sets(correctness__image="registry.example.com/tools:1")), "Pod")["spec"]
    assert "--server-url=http://wide-deep:8000" in container(pod, "http")["command"]


def test_autoscaler_divides_sums() -> None:
    hpa = one(render(), "HorizontalPodAutoscaler")["spec"]
    queue, cpu = hpa["metrics"]
    assert queue["external"]["target"] == {"type": "Value", "value": "10"}
    assert queue["external"]["metric"]["selector"]["matchLabels"]["model"] == "WidenDeep"
    assert cpu["containerResource"]["container"] == "triton"
    keda = one(render(*KEDA), "ScaledObject")["spec"]
    query = keda["triggers"][0]["metadata"]["query"]
    of = '{namespace="default",release="wide-deep",track="stable",model="WidenDeep"}'
    assert query == (
        f"sum(rate(nv_inference_queue_duration_us{of}[1m]))"
        f" / (sum(rate(nv_inference_request_success{of}[1m])) > 0) / 1000"
        f" or sum(nv_inference_pending_request_count{of}) == 0"
    )
    assert keda["triggers"][0]["metricType"] == "Value"


def test_a_canary_scales_by_itself() -> None:
    for options in (WEIGHT_5, [*WEIGHT_5, *KEDA]):
        kinds = ("HorizontalPodAutoscaler", "ScaledObject")
        targets = [item["spec"]["scaleTargetRef"]["name"] for item in render(*options) if item["kind"] in kinds]
        assert targets == ["wide-deep", "wide-deep-canary"]


def test_autoscaled_deployments_leave_their_replicas_alone() -> None:
    assert "replicas" not in one(render(), "Deployment")["spec"]
    assert one(render(*sets(autoscaling__enabled="false", replicas="3")), "Deployment")["spec"]["replicas"] == 3


def test_network_policy_lets_in_clients_the_gate_and_prometheus() -> None:
    spec = one(render(), "NetworkPolicy")["spec"]
    requests, metrics = spec["ingress"]
    assert requests["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "correctness"
    assert [item["port"] for item in requests["ports"]] == [8000, 8001]
    assert [item["port"] for item in metrics["ports"]] == [8002]
    assert spec["egress"] == [] and spec["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], False),
        (GATEWAY, True),
        ([*GATEWAY, *sets(networkPolicy__enabled="false")], False),
        ([*GATEWAY, "--set-json", 'networkPolicy.from=[{"podSelector":{}},{"namespaceSelector":{}}]'], False),
    ],
    ids=["no gateway", "gateway", "no policy", "let in"],
)
def test_notes_tell_that_the_gateways_pods_are_kept_out(options: list[str], told: bool) -> None:
    images = sets(image=SERVER_IMAGE, model__image=MODEL_IMAGE)
    done = helm("install", "wide-deep", CHART, "--dry-run=client", "--values", VALUES_CPU, *images, *options)
    assert done.returncode == 0, done.stderr
    assert ("name it in networkPolicy.from" in done.stdout.partition("NOTES:")[2]) is told


def test_monitoring_takes_its_files_with_the_job_of_the_release() -> None:
    objects = render(*MONITORING, "--set", "monitoring.labels.prometheus=main", "--namespace", "ads")
    assert one(objects, "PodMonitor")["metadata"]["labels"]["prometheus"] == "main"
    rules = (CHART / "files" / "rules.yaml").read_text()
    own = yaml.safe_load(
        rules.replace('job="triton"', 'job="ads/wide-deep"').replace("job: triton", "job: ads/wide-deep")
    )
    assert one(objects, "PrometheusRule")["spec"] == own


def test_limits_of_alerts_are_values() -> None:
    limits = {"latencyBudgetSeconds": "0.02", "errorRatio": "0.001", "refusedRatio": "0.5"}
    options = sets(**{f"monitoring__{name}": value for name, value in limits.items()})
    groups = one(render(*MONITORING, *options), "PrometheusRule")["spec"]["groups"]
    told = {rule.get("record"): rule["expr"] for group in groups for rule in group["rules"]}
    names = ("triton:latency_budget:seconds", "triton:error_ratio:limit", "triton:refused_ratio:limit")
    assert [told[name] for name in names] == ["vector(0.02)", "vector(0.001)", "vector(0.5)"]


def test_dashboard_is_the_file() -> None:
    objects = render(*MONITORING)
    (board,) = [item for item in objects if item["metadata"]["name"] == "wide-deep-dashboard"]
    assert board["data"]["wide-deep.json"].strip() == (CHART / "files" / "dashboard.json").read_text().strip()
