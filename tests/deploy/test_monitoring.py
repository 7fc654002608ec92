"""Rules and dashboard of deploy/kubernetes/files: by promtool, and in a real Prometheus that scrapes two real servers
which get more requests than they can answer. The metrics of GPUs, which these servers don't have, are a mock's."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Format, Host
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.deploying.queue_policy import QueuePolicy
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.asking import ask
from tests.mock_gpu_metrics import MEMORY, UTILIZATION, mock_gpus
from tests.overload import CAPACITY, add_slow_model, overload
from tests.prometheus import JOB, NAMESPACE, Prometheus, needs_prometheus, running_prometheus, wait_until
from tests.small_networks import summing

FILES = ROOT / "deploy" / "kubernetes" / "files"
RULES, RULES_TEST, DASHBOARD = (FILES / name for name in ("rules.yaml", "rules_test.yaml", "dashboard.json"))
PAGE = ROOT / "docs" / "monitoring.md"
BUDGET_S = 0.5
LOAD_S = 4.0
MINUTE_S = 15  # what a minute of a window of the rules becomes: servers are scraped each second, not each 15 s
VARIABLES = {"$__rate_interval": f"{MINUTE_S}s", "$job": JOB, "$namespace": ".*", "$model": ".*"}
OFFERED = {"job": {JOB}, "namespace": {NAMESPACE}, "model": {"slow", "summing"}}
GPU_PANELS = {"GPU in use": UTILIZATION, "Memory of the GPU in use": MEMORY}


def _alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def _queries() -> list[tuple[str, str]]:
    """Title and expression of each query of the dashboard's panels."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    inner = [inner for panel in panels for inner in panel.get("panels") or []]
    return [(panel["title"], query["expr"]) for panel in (*panels, *inner) for query in panel.get("targets") or []]


@needs_prometheus
@pytest.mark.parametrize(
    "command", [["check", "rules", "--lint=all", "--lint-fatal", RULES], ["test", "rules", RULES_TEST]]
)
def test_promtool_accepts_the_rules(command: list[str | Path]) -> None:
    done = subprocess.run(["promtool", *command], cwd=FILES, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    tests = yaml.safe_load(RULES_TEST.read_text())["tests"]
    tried = [case for test in tests for case in test.get("alert_rule_test", ())]
    fired = {case["alertname"] for case in tried if case["exp_alerts"]}
    silent = {case["alertname"] for case in tried if not case["exp_alerts"]}
    headings = set(re.findall(r"^### (\w+)$", PAGE.read_text(), flags=re.MULTILINE))
    alerts = _alerts()
    assert len(alerts) >= 8
    assert alerts.keys() == fired == headings and alerts.keys() <= silent
    for name, alert in alerts.items():
        assert {"summary", "description"} <= alert["annotations"].keys() and "for" in alert, name
        assert alert["annotations"]["runbook"] == f"docs/monitoring.md#{name.lower()}"
        assert alert["labels"]["severity"] in ("critical", "warning")


@pytest.mark.skipif(
    importlib.util.find_spec("grafana_foundation_sdk") is None and os.environ.get("CI") != "true",
    reason="no grafana-foundation-sdk: scripts/install.sh --dev installs it",
)
def test_dashboard_is_what_its_script_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "deploy" / "dashboard.py", tmp_path / "dashboard.json"], check=True)
    assert DASHBOARD.read_text() == (tmp_path / "dashboard.json").read_text(), (
        "python deploy/dashboard.py writes it anew"
    )


def _quick_rules(folder: Path) -> Path:
    """The rules with the model's own latency budget, in less time: no patience, and shorter windows of rates."""
    text = RULES.read_text().replace("vector(0.05)", f"vector({BUDGET_S})")
    text, windows = re.subn(r"\[(\d+)m\]", lambda found: f"[{MINUTE_S * int(found[1])}s]", text)
    assert windows >= 10
    rules = yaml.safe_load(text)
    for group in rules["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            if "alert" in rule:
                rule["for"] = "1s"
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(rules, sort_keys=False))
    return path


@contextlib.contextmanager
def _few_requests(server: TritonServer) -> Iterator[None]:
    """Some requests a second while the block runs."""
    over = threading.Event()

    def ask_seldom() -> None:
        while not over.wait(0.2):
            overload(server, "slow", rate=5, seconds=0.2)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_seldom)
        try:
            yield
        finally:
            over.set()
            asking.result()


@needs_prometheus
def test_alerts_fire_and_end_and_the_dashboard_has_data(tmp_path: Path) -> None:
    _write_models(tmp_path)
    with contextlib.ExitStack() as stack:
        prometheus = stack.enter_context(running_prometheus(tmp_path, _quick_rules(tmp_path)))
        wait_until(lambda: prometheus.firing() == {"TritonNoServer"}, "an alert without servers")
        first, second = (stack.enter_context(contextlib.ExitStack()) for _ in range(2))
        servers = {
            "pod-1": first.enter_context(_server(tmp_path, "1")),
            "pod-2": second.enter_context(_server(tmp_path, "2")),
        }
        addresses = {pod: urllib.parse.urlsplit(server.metrics_url).netloc for pod, server in servers.items()}
        prometheus.scrape(addresses | {"pod-1": stack.enter_context(mock_gpus(servers["pod-1"].metrics_url))})
        wait_until(lambda: prometheus.value("sum(up)") == 2, "both servers' metrics")
        wait_until(lambda: prometheus.firing() == {"TritonModelNotReady"}, "an alert of servers without models")
        for server in servers.values():
            server.load_model("slow", timeout_s=60)
        servers["pod-1"].load_model("summing", timeout_s=60)
        # A rate does not see what a counter has when it is scraped for the first time.
        wait_until(lambda: prometheus.value("count(nv_inference_request_success)") == 3, "the models' metrics")
        wait_until(lambda: not prometheus.firing(), "quiet")

        _ask_for_a_bad_id(servers["pod-1"])
        wait_until(lambda: prometheus.firing() == {"TritonErrors"}, "an alert of errors")
        with ThreadPoolExecutor(2) as pool:
            load = pool.map(
                lambda server: overload(server, "slow", rate=2 * CAPACITY, seconds=LOAD_S), servers.values()
            )
            assert all(outcome.refused_s for outcome in load)
        with _few_requests(servers["pod-1"]):
            wait_until(lambda: "TritonQueueLong" in prometheus.firing(), "an alert of the queue")
            wait_until(lambda: "TritonRefusals" in prometheus.firing(), "an alert of refusals")
            _require_right_values(prometheus)
            _require_data(prometheus)
            _require_alert_of_a_server_that_goes(prometheus, second, tmp_path, servers)
            wait_until(lambda: not prometheus.firing(), "the alerts' end")
            mean_s = prometheus.value('triton:queue_seconds:mean1m{model="slow"}')
            assert mean_s is not None and mean_s < BUDGET_S / 4, "the alert ended though requests wait"


def _write_models(folder: Path) -> None:
    """The repository of the servers: a slow model, and a network in the C++ host."""
    add_slow_model(folder / "repository", "slow", QueuePolicy.of(latency_budget_ms=1000 * BUDGET_S, timeout_us=None))
    network = summing()
    deployment = Deployment("summing", network.spec, Format.OPENVINO, host=Host.CPP, max_batch_size=8)
    add_model(folder / "repository", deployment, network.write(Format.OPENVINO, folder / "summing"))


def _ask_for_a_bad_id(server: TritonServer) -> None:
    bad = {"item": np.array([[99]]), "tags": np.zeros((1, 3), np.int32), "wide": np.zeros((1, 5), np.float32)}
    answers = [ask(server, "summing", [bad])[0] for _ in range(5)]
    assert all("item holds id 99" in str(answer) for answer in answers)


def _server(
    folder: Path, name: str, metrics_port: int | None = None
) -> contextlib.AbstractContextManager[TritonServer]:
    return local_server(folder / "repository", log_path=folder / f"server_{name}.log", metrics_port=metrics_port)


def _require_right_values(prometheus: Prometheus) -> None:
    """The recorded mean is the one that the servers' own counters give since their start."""
    queue_us = prometheus.value('sum(nv_inference_queue_duration_us{model="slow"})')
    answered = prometheus.value('sum(nv_inference_request_success{model="slow"})')
    mean_s = prometheus.value('triton:queue_seconds:mean1m{model="slow"}')
    assert queue_us and answered and mean_s
    assert mean_s == pytest.approx(queue_us / answered / 1e6, rel=0.05)


def _require_data(prometheus: Prometheus) -> None:
    """Each query of the dashboard gives numbers, and each of its variables has something to choose."""
    queries = _queries()
    assert len(queries) > 15
    for title, expression in queries:
        found = prometheus.query(_filled_in(expression))
        assert found and all(math.isfinite(value) for _, value in found), f"{title}: {expression}: {found}"
        if "nv_gpu_" in expression:
            assert {labels["gpu_uuid"]: value for labels, value in found} == GPU_PANELS[title]
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    asked = {variable["name"]: variable["query"] for variable in variables if variable["type"] == "query"}
    assert asked.keys() == OFFERED.keys()
    for name, query in asked.items():
        ((selector, label),) = re.findall(r"^label_values\((.*), (\w+)\)$", query)
        assert set(prometheus.label_values(label, _filled_in(selector))) == OFFERED[name]


def _filled_in(expression: str) -> str:
    """With values for Grafana's variables."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def _require_alert_of_a_server_that_goes(
    prometheus: Prometheus, server: contextlib.ExitStack, folder: Path, servers: dict[str, TritonServer]
) -> None:
    port = urllib.parse.urlsplit(servers["pod-2"].metrics_url).port
    server.close()
    wait_until(lambda: "TritonServerDown" in prometheus.firing(), "an alert of the stopped server")
    assert "TritonNoServer" not in prometheus.firing()
    again = server.enter_context(_server(folder, "3", metrics_port=port))
    again.load_model("slow", timeout_s=60)
    wait_until(lambda: "TritonServerDown" not in prometheus.firing(), "the alert's end")
