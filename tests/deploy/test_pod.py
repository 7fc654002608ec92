"""A pod of the chart, started by ``podman kube play`` from what ``helm template`` gives, with the image that only
serves, a model's image and a real HAProxy.

It shows that the images, the commands, the users, the mounts and the limits of the pod fit together, and what the proxy
passes. ``podman kube play`` 4.3 ignores these without a word, so that this test says nothing of them: readiness and
startup probes, ``lifecycle`` (preStop), ``terminationGracePeriodSeconds``, ``seccompProfile``, ``fsGroup``, the
``sizeLimit`` and ``medium`` of volumes, resource requests, topology spread, priority, ``automountServiceAccountToken``,
and all objects but Deployments, Pods, ConfigMaps and PersistentVolumeClaims: Services, routes, the autoscaler, network
policies and disruption budgets. It starts one pod, however many replicas there are. Two things it does otherwise than
Kubernetes, so the test changes them in what Helm gives: it would start an init container again that has done its work,
and would publish the pod's ports at all addresses of this host.
"""

from __future__ import annotations

import contextlib
import copy
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import docker
import grpc  # type: ignore[import-untyped]
import numpy as np
import pytest
import yaml
from tritonclient.grpc import service_pb2, service_pb2_grpc

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Batch
from deployment_toolkit.rows.correctness import compare_dumps
from deployment_toolkit.rows.dump import Dump
from deployment_toolkit.rows.tolerance import Tolerance
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.base import open_session
from run_inference_on_triton import main as send
from tests.cluster_tools import needs_cluster_tools, one, render
from tests.ranker import MODEL, ROWS, json_request, rows, scores, write_model
from tests.serving_image import build_model_image, open_proxy_image, removed

DEADLINE_S = 60
CORES = 1
CONNECTIONS = 128  # the engine of the tests gives a container 1024 files
HTTP, GRPC, METRICS = 8000, 8001, 8002
OWN_PORTS = (9000, 9001, 9002)  # the server's, behind the proxy

pytestmark = [
    needs_cluster_tools,
    pytest.mark.skipif(shutil.which("podman") is None, reason="only podman plays Kubernetes' objects"),
]


@dataclass(frozen=True)
class Pod:
    """A running pod: its name, its address, the objects that the chart gave, and its containers by name."""

    name: str
    address: str
    objects: list[dict[str, Any]]
    containers: dict[str, Any]

    @property
    def template(self) -> dict[str, Any]:
        """The pod in the chart's Deployment."""
        return dict(one(self.objects, "Deployment")["spec"]["template"]["spec"])


@pytest.fixture(scope="module")
def engine(container_engine: bool) -> Iterator[docker.DockerClient]:
    """A client of the engine, which is podman's."""
    with contextlib.closing(docker.from_env(timeout=600)) as client:
        if not any("Podman" in part["Name"] for part in client.version()["Components"]):
            pytest.skip("only podman plays Kubernetes' objects, and another engine answers")
        yield client


@pytest.fixture(scope="module")
def images(
    engine: docker.DockerClient, container_engine: bool, serving_image: str, base_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, str]]:  # fmt: skip
    """Images of the server, the model and the proxy, by the chart's values."""
    repository, dump_dir = write_model(tmp_path_factory.mktemp("in_pod"))
    with (
        removed(f"localhost/wide-deep-model-in-pod:{os.getpid()}") as model,
        open_proxy_image(base_image, keep=container_engine) as proxy,
    ):
        done = build_model_image(repository, model, "--reference-dump-dir", dump_dir, "--from-image-name", base_image)
        assert done.returncode == 0, done.stderr
        yield {"image": serving_image, "model.image": model, "proxy.image": proxy}


@pytest.fixture(scope="module")
def pod(engine: docker.DockerClient, images: dict[str, str]) -> Iterator[Pod]:
    """The chart's pod for CPU nodes, with one core, ready."""
    values = {**images, "model.name": MODEL, "resources.cpu": CORES, "proxy.connections": CONNECTIONS}
    objects = render(*(part for key, value in values.items() for part in ("--set", f"{key}={value}")))
    name = one(objects, "Deployment")["metadata"]["name"] + "-pod-0"
    try:
        _podman("kube", "play", "-", text=yaml.safe_dump_all(_for_podman(objects)))
        running = Pod(name, _address(engine, name), objects, _containers(engine, name))
        _wait_ready(running)
        yield running
    finally:
        _podman("pod", "rm", "--force", "--ignore", "--time=0", name)
        _podman(
            "volume", "rm", "--force", *(item["metadata"]["name"] for item in objects if item["kind"] == "ConfigMap")
        )


def _for_podman(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    changed = copy.deepcopy(objects)
    pod = one(changed, "Deployment")["spec"]["template"]["spec"]
    pod["restartPolicy"] = "OnFailure"
    for container in pod["containers"]:
        container.pop("ports", None)
    return changed


def _podman(*arguments: str, text: str | None = None) -> str:
    command = ["podman", "--remote", "--url", os.environ["DOCKER_HOST"], *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _containers(engine: docker.DockerClient, pod: str) -> dict[str, Any]:
    prefix = f"{pod}-"
    listed = engine.containers.list(all=True)
    return {item.name.removeprefix(prefix): item for item in listed if item.name.startswith(prefix)}


def _address(engine: docker.DockerClient, pod: str) -> str:
    (infra,) = (json.loads(_podman("pod", "inspect", pod))["InfraContainerID"],)
    networks = engine.containers.get(infra).attrs["NetworkSettings"]["Networks"]
    return next(str(network["IPAddress"]) for network in networks.values())


def _wait_ready(pod: Pod) -> None:
    path = pod.template["containers"][0]["readinessProbe"]["httpGet"]["path"]
    deadline = time.monotonic() + DEADLINE_S
    while _ask(pod, "GET", path)[0] != 200:
        assert time.monotonic() < deadline, {name: item.logs().decode() for name, item in pod.containers.items()}
        time.sleep(0.1)


def _ask(pod: Pod, method: str, path: str, body: bytes | None = None, port: int = HTTP) -> tuple[int, bytes]:
    """Status, 0 without an answer, and body of the answer."""
    with contextlib.closing(http.client.HTTPConnection(pod.address, port, timeout=10)) as connection:
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""


def _call(pod: Pod, method: str, request: Any) -> grpc.StatusCode:
    with grpc.insecure_channel(f"{pod.address}:{GRPC}") as channel:
        try:
            getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), method)(request, timeout=10)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_pod_answers_rightly(scheme: str, pod: Pod) -> None:
    x = rows(30)
    url = ServerUrl.parse(f"{scheme}://{pod.address}:{HTTP if scheme == 'http' else GRPC}")
    with open_session(
        url, MODEL, "1", synchronous=True, max_unresponded_requests=1, response_wait_time_s=DEADLINE_S
    ) as session:
        (answer,) = session.predict(iter([Batch(np.arange(30), x, {})]))
    assert np.allclose(answer.y_pred["score"], scores(x), atol=1e-4)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_rows_of_the_models_image_are_answered_as_by_the_framework(scheme: str, pod: Pod, tmp_path: Path) -> None:
    _podman("cp", f"{pod.name}-triton:/mnt/model/gate/reference", str(tmp_path / "reference"))
    url = f"{scheme}://{pod.address}:{HTTP if scheme == 'http' else GRPC}"
    options = ["--dataloader", str(ROOT / "dump_dataloader.py"), "--rows-dir", str(tmp_path / "reference")]
    send(
        [
            *options,
            "--server-url",
            url,
            "--model-name",
            MODEL,
            "--output-dir",
            str(tmp_path / "served"),
            "--dump-labels",
        ]
    )
    served, reference = Dump(tmp_path / "served"), Dump(tmp_path / "reference")
    assert served.rows == ROWS and compare_dumps(served, reference, Tolerance(atol=1e-4)).problem is None


def test_json_passes_the_proxy(pod: Pod) -> None:
    x = rows(2)
    status, body = _ask(pod, "POST", f"/v2/models/{MODEL}/infer", json_request(x))
    assert status == 200, body
    assert np.allclose(json.loads(body)["outputs"][0]["data"], scores(x)[:, 0], atol=1e-4)


@pytest.mark.parametrize(
    "path", ["/v2", "/v2/health/live", "/v2/health/ready", f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/ready"]
)
def test_metadata_and_health_pass_the_proxy(path: str, pod: Pod) -> None:
    assert _ask(pod, "GET", path)[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/v2/repository/models/{MODEL}/load"),
        ("POST", f"/v2/repository/models/{MODEL}/unload"),
        ("POST", "/v2/repository/index"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/systemsharedmemory/region/a/register"),
        ("POST", "/v2/systemsharedmemory/unregister"),
        ("GET", "/v2/cudasharedmemory/status"),
        ("POST", "/v2/cudasharedmemory/region/a/register"),
        ("GET", "/v2/trace/setting"),
        ("POST", "/v2/trace/setting"),
        ("POST", f"/v2/models/{MODEL}/trace/setting"),
        ("GET", "/v2/logging"),
        ("POST", "/v2/logging"),
        ("POST", f"/v2/models/{MODEL}/generate"),
        ("POST", f"/v2/models/{MODEL}/%69nfer/../../../repository/index"),
        ("POST", f"//v2/repository/models/{MODEL}/load"),
        ("POST", f"/v2/models/../repository/models/{MODEL}/load"),
        ("POST", f"/v2/%72epository/models/{MODEL}/load"),
        ("GET", "/metrics"),
        ("GET", "/"),
    ],
)
def test_proxy_refuses_what_could_change_the_server(method: str, path: str, pod: Pod) -> None:
    status, body = _ask(pod, method, path, b"{}" if method == "POST" else None)
    assert status in (400, 403, 404, 405), (status, body)
    assert b"proxy" in body, body  # the server did not see it


GRPC_CONTROL = {
    "RepositoryModelLoad": service_pb2.RepositoryModelLoadRequest(model_name=MODEL),
    "RepositoryModelUnload": service_pb2.RepositoryModelUnloadRequest(model_name=MODEL),
    "RepositoryIndex": service_pb2.RepositoryIndexRequest(),
    "SystemSharedMemoryStatus": service_pb2.SystemSharedMemoryStatusRequest(),
    "SystemSharedMemoryRegister": service_pb2.SystemSharedMemoryRegisterRequest(name="a", key="/a", byte_size=8),
    "SystemSharedMemoryUnregister": service_pb2.SystemSharedMemoryUnregisterRequest(),
    "CudaSharedMemoryStatus": service_pb2.CudaSharedMemoryStatusRequest(),
    "CudaSharedMemoryRegister": service_pb2.CudaSharedMemoryRegisterRequest(name="a", byte_size=8),
    "CudaSharedMemoryUnregister": service_pb2.CudaSharedMemoryUnregisterRequest(),
    "TraceSetting": service_pb2.TraceSettingRequest(),
    "LogSettings": service_pb2.LogSettingsRequest(),
}


@pytest.mark.parametrize("method", GRPC_CONTROL)
def test_proxy_refuses_the_same_over_grpc(method: str, pod: Pod) -> None:
    # The server itself, which has a key, would say UNAVAILABLE.
    assert _call(pod, method, GRPC_CONTROL[method]) in (
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.PERMISSION_DENIED,
    )


def test_metadata_and_health_pass_over_grpc(pod: Pod) -> None:
    requests = {
        "ServerLive": service_pb2.ServerLiveRequest(),
        "ServerReady": service_pb2.ServerReadyRequest(),
        "ModelReady": service_pb2.ModelReadyRequest(name=MODEL),
        "ModelMetadata": service_pb2.ModelMetadataRequest(name=MODEL),
    }
    assert {_call(pod, method, request) for method, request in requests.items()} == {grpc.StatusCode.OK}


def test_metrics_pass_at_their_port_alone(pod: Pod) -> None:
    status, body = _ask(pod, "GET", "/metrics", port=METRICS)
    assert status == 200 and b"nv_inference_request_success" in body
    assert _ask(pod, "GET", "/v2/health/live", port=METRICS)[0] == 404


def test_server_is_not_reachable_at_the_address_of_the_pod(pod: Pod) -> None:
    for port in OWN_PORTS:
        with socket.socket() as probe:
            probe.settimeout(5)
            assert probe.connect_ex((pod.address, port)) != 0
    own = pod.containers["triton"].exec_run(["cat", "/proc/net/tcp"]).output.decode()
    assert all(f"0100007F:{port:04X}" in own for port in OWN_PORTS)  # they are the server's ports


@pytest.mark.parametrize("name", ["triton", "proxy"])
def test_containers_have_no_rights(name: str, pod: Pod) -> None:
    inside = pod.containers[name].exec_run(["sh", "-c", "cat /proc/1/status; touch /new /usr/new"])
    said = inside.output.decode()
    uid = pod.template["securityContext"]["runAsUser"]
    assert uid != 0 and f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in said
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"):
        assert line in said
    assert said.count("Read-only file system") == 2


@pytest.mark.parametrize("name", ["triton", "proxy"])
def test_limits_are_those_of_the_chart(name: str, pod: Pod) -> None:
    (wanted,) = [item["resources"]["limits"] for item in pod.template["containers"] if item["name"] == name]
    cpu, memory = str(wanted["cpu"]), str(wanted["memory"])
    cores = float(cpu.removesuffix("m")) / 1000 if cpu.endswith("m") else float(cpu)
    units = {"Mi": 2**20, "Gi": 2**30}
    host = pod.containers[name].attrs["HostConfig"]
    assert host["Memory"] == int(memory[:-2]) * units[memory[-2:]]
    assert host["CpuQuota"] / host["CpuPeriod"] == pytest.approx(cores)


def test_model_takes_as_many_threads_as_the_limit_has_cores(pod: Pod) -> None:
    assert f"on {CORES} streams in " in pod.containers["triton"].logs().decode()


def test_pod_ends_well_within_its_grace_and_starts_again(pod: Pod, engine: docker.DockerClient) -> None:
    grace_s = pod.template["terminationGracePeriodSeconds"]
    started = time.monotonic()
    _podman("pod", "stop", f"--time={grace_s}", pod.name)
    assert time.monotonic() - started < grace_s
    for name, container in pod.containers.items():
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 0, (name, container.logs().decode()[-2000:])
    _podman("pod", "start", pod.name)
    again = replace(pod, address=_address(engine, pod.name))
    _wait_ready(again)
    assert _ask(again, "POST", f"/v2/models/{MODEL}/infer", json_request(rows(1)))[0] == 200
