"""What the chart's containers run: the gate's commands by this project's own command lines, the proxy's configuration
by HAProxy."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import re
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Batch, Prediction
from deployment_toolkit.errors import DeploymentError
from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.process import child
from deployment_toolkit.proxy.running import find_haproxy
from deployment_toolkit.rows.dump import DumpOptions, DumpWriter
from deployment_toolkit.server_access.ports import choose_free, listens
from tests.cluster_tools import VALUES_NVIDIA, needs_cluster_tools, one, render
from tests.deploy.charts import TOOLS_IMAGE, container, sets
from tests.proxy_program import needs_haproxy
from tests.test_dump_dataloader import write_dump

pytestmark = needs_cluster_tools
ROWS = "/mnt/model/gate/reference"
DEADLINE_S = 30


def gate_commands(*options: str) -> dict[str, list[str]]:
    """Program and arguments of each container of the gate, by its name."""
    pod = one(render(*sets(correctness__image=TOOLS_IMAGE), *options), "Pod")["spec"]
    commands = {name: container(pod, name)["command"] for name in ("grpc", "http", "compare")}
    assert all(command[0] == "python" for command in commands.values())
    return {name: command[1:] for name, command in commands.items()}


def run(command: list[str], rows: Path, work: Path) -> None:
    """Runs a command of the gate with its folders elsewhere, and its plug-ins in this checkout."""
    places = {ROWS: str(rows), "/work": str(work)}
    program, *options = command
    for old, new in places.items():
        options = [option.replace(old, new) for option in options]
    options = [
        f"{flag}={ROOT / value}" if value.endswith(".py") else option
        for option in options
        for flag, _, value in [option.partition("=")]
    ]
    importlib.import_module(program.removesuffix(".py")).main(options)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_gate_sends_the_kept_rows(tmp_path: Path, protocol: str) -> None:
    """Without a server; the rows are read before."""
    command = [option.replace("//wide-deep:", "//127.0.0.1:1") for option in gate_commands()[protocol]]
    with pytest.raises(DeploymentError, match="there is no dump at"):
        run(command, tmp_path / "none", tmp_path)
    write_dump(tmp_path / "rows", inputs=True)
    with pytest.raises(DeploymentError, match=r"127.0.0.1:1800"):
        run(command, tmp_path / "rows", tmp_path)


def test_gate_compares_both_protocols_by_its_limits(tmp_path: Path) -> None:
    batch = write_dump(tmp_path / "rows", inputs=True)
    for name, probability in (("grpc", 0.5), ("http", 0.50004)):
        with DumpWriter(DumpOptions(tmp_path / name, dump_labels=True)) as dump:
            dump.write(Prediction(Batch(batch.ids, {}, batch.y), {"wide_deep_model": batch.y["clicked"] * probability}))
    undefined = ["--set", "correctness.maxMetricLoss=null"]  # of seven rows
    run(gate_commands(*undefined)["compare"], tmp_path / "rows", tmp_path)
    with pytest.raises(DeploymentError, match="^http: "):
        run(gate_commands(*undefined, *sets(correctness__rtol="0"))["compare"], tmp_path / "rows", tmp_path)
    with pytest.raises(DeploymentError, match="the limit on map12 can't be checked"):
        run(gate_commands()["compare"], tmp_path / "rows", tmp_path)


def test_nvidias_server_has_a_key_that_nobody_is_told() -> None:
    chart = container(one(render(values=VALUES_NVIDIA), "Deployment")["spec"]["template"]["spec"], "triton")
    (kserve,) = yaml.safe_load((ROOT / "deploy" / "kserve" / "serving-runtime.yaml").read_text())["spec"]["containers"]
    assert chart["command"] == kserve["command"]
    *start, server = chart["command"]
    assert server == "tritonserver" and "key" not in " ".join([*chart["args"], *kserve["args"]])
    keys = set()
    for _ in range(2):
        told = subprocess.run([*start, "printf", "%s\n", "--a=b c", "d"], capture_output=True, text=True, check=True)
        first, second, *closed = told.stdout.splitlines()
        assert (first, second) == ("--a=b c", "d")
        pattern = r"--(http-restricted-api|grpc-restricted-protocol)=model-repository,shared-memory,trace,logging:"
        found = [re.fullmatch(pattern + r"wide-deep-key=([0-9a-f-]{36})", option) for option in closed]
        keys |= {match[2] for match in found if match}
        assert [match and match[1] for match in found] == ["http-restricted-api", "grpc-restricted-protocol"]
    assert len(keys) == 2
    embedded = container(one(render(), "Deployment")["spec"]["template"]["spec"], "triton")
    assert embedded["command"] == ["tritonserver"]  # its image makes a key by itself


def proxy_configuration(*options: str) -> str:
    return str(one(render(*options), "ConfigMap")["data"]["haproxy.cfg"])


@needs_haproxy
def test_proxy_configuration_is_valid(tmp_path: Path) -> None:
    program = find_haproxy()
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(proxy_configuration())
    done = subprocess.run([program, "-c", "-f", configuration], capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr


class _BusyServer(BaseHTTPRequestHandler):
    """A mock of a server that is busy: inference is answered when ``free`` is set, all else at once."""

    asked, free = threading.Event(), threading.Event()

    def do_POST(self) -> None:
        self.asked.set()
        self.free.wait(DEADLINE_S)
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return None


def ask(port: int, method: str, path: str) -> int:
    with contextlib.closing(http.client.HTTPConnection(LOOPBACK, port, timeout=DEADLINE_S)) as connection:
        connection.request(method, path, b"{}" if method == "POST" else None)
        return connection.getresponse().status


@needs_haproxy
def test_probes_do_not_wait_behind_requests(tmp_path: Path) -> None:
    """Else the kubelet would restart a server that is only busy."""
    ports = choose_free(dict.fromkeys(("http", "grpc", "metrics")))
    text = proxy_configuration("--set", "proxy.inFlight=1,proxy.connections=16")
    for number, port in enumerate(ports.values()):
        text = text.replace(f"bind :{8000 + number}", f"bind {LOOPBACK}:{port}")
    with ThreadingHTTPServer((LOOPBACK, 0), _BusyServer) as server, ThreadPoolExecutor() as pool:
        (tmp_path / "haproxy.cfg").write_text(text.replace(f"{LOOPBACK}:9000", f"{LOOPBACK}:{server.server_port}"))
        pool.submit(server.serve_forever)
        try:
            with child([find_haproxy(), "-db", "-f", tmp_path / "haproxy.cfg"], stdout=tmp_path / "log") as proxy:
                deadline = time.monotonic() + DEADLINE_S
                while not listens(proxy.pid, [*ports.values()]):
                    assert proxy.wait(0.01) is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                waiting = [pool.submit(ask, ports["http"], "POST", "/v2/models/m/infer") for _ in range(3)]
                assert _BusyServer.asked.wait(DEADLINE_S)
                probed = [ask(ports["http"], "GET", path) for path in ("/v2/health/live", "/v2/models/m/ready")]
                assert probed == [200, 200] and not any(one.done() for one in waiting)
                _BusyServer.free.set()
                assert [one.result() for one in waiting] == [200] * 3
        finally:
            _BusyServer.free.set()
            server.shutdown()
