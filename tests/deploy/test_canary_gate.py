"""The gate of an upgrade asks the canary that runs, so an upgrade that changes it gives it no traffic. A mock of the
API server tells Helm what runs; it stands for a cluster, which no machine of the tests has."""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from tests.cluster_tools import MODEL_IMAGE, needs_cluster_tools, one, render, template
from tests.deploy.charts import CANARY, WEIGHT_5, sets

pytestmark = needs_cluster_tools


class MockOfApiServer(BaseHTTPRequestHandler):
    """Answers what Helm asks before it renders a chart: versions, kinds, and one Deployment."""

    objects: list[dict[str, Any]]
    running: dict[str, Any]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        found = self._kinds().get(path)
        if path.endswith(f"/deployments/{self.running['metadata']['name']}"):
            found = self.running
        body = json.dumps(found or {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _kinds(self) -> dict[str, Any]:
        served: dict[str, Any] = {"/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"}}
        served["/api"] = {"kind": "APIVersions", "versions": ["v1"]}
        groups = []
        for version in sorted({item["apiVersion"] for item in self.objects}):
            kinds = sorted({item["kind"] for item in self.objects if item["apiVersion"] == version})
            resources = [{"name": f"{kind.lower()}s", "kind": kind, "namespaced": True, "verbs": []} for kind in kinds]
            place = "/apis" if "/" in version else "/api"
            served[f"{place}/{version}"] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
            if "/" in version:
                known = {"groupVersion": version, "version": version.partition("/")[2]}
                groups.append({"name": version.partition("/")[0], "versions": [known], "preferredVersion": known})
        return {**served, "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}}

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Options for a cluster in which the canary of weight 0 runs, that the mock tells of."""
    running = copy.deepcopy(one(render(*CANARY), "Deployment", "wide-deep-canary"))
    running["metadata"]["generation"] = 2
    running["status"] = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1}
    MockOfApiServer.objects, MockOfApiServer.running = render(*WEIGHT_5), running
    kubeconfig = tmp_path_factory.mktemp("cluster") / "kubeconfig"
    with ThreadingHTTPServer(("127.0.0.1", 0), MockOfApiServer) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        clusters = [{"name": "mock", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}]
        contexts = [{"name": "mock", "context": {"cluster": "mock", "user": "", "namespace": "default"}}]
        settings = {"apiVersion": "v1", "kind": "Config", "clusters": clusters, "contexts": contexts}
        kubeconfig.write_text(yaml.safe_dump({**settings, "current-context": "mock"}))
        yield ["--kubeconfig", str(kubeconfig), "--dry-run=server", "--disable-openapi-validation", "--qps=1000"]
        server.shutdown()


def test_canary_that_runs_gets_traffic(cluster: list[str]) -> None:
    done = template(*WEIGHT_5, *cluster)
    assert done.returncode == 0, done.stderr
    assert "kind: Job" in done.stdout


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (
            sets(canary__model__image=MODEL_IMAGE),
            {},
            "canary.model is .*a{64}, but the canary that runs, .* has .*b{64}",
        ),
        (sets(canary__image="r/serving:2"), {}, "the canary's server is to be r/serving:2, but the canary that runs"),
        ([], {"observedGeneration": 1}, "pods of an earlier canary still run, which the gate could ask: wait until"),
        ([], {"replicas": 2}, "wait until kubectl rollout status deployment/wide-deep-canary ends"),
    ],
)
def test_another_canary_than_the_one_that_runs_gets_none(
    cluster: list[str], options: list[str], status: dict[str, int], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in status.items():
        monkeypatch.setitem(MockOfApiServer.running["status"], name, value)
    done = template(*WEIGHT_5, *cluster, *options)
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    weightless = template(*WEIGHT_5, *cluster, *options, *sets(canary__weight="0"))
    assert weightless.returncode == 0, weightless.stderr
