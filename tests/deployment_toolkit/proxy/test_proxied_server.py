"""A real server behind the proxy: good requests are answered as without it, harmful ones are refused."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import psutil
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2, service_pb2_grpc

from deployment_toolkit.errors import ServerError
from deployment_toolkit.proxy import running
from deployment_toolkit.proxy.settings import ProxyOptions
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_server.admin import admin_client
from deployment_toolkit.triton_server.health.__main__ import main as probe
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.proxied import proxied_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.proxy_program import needs_haproxy

pytestmark = needs_haproxy

ANY_PORTS = {"http": None, "grpc": None, "metrics": None}
LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/adder/infer"
ROW = struct.pack("<f3i", 1.0, 1, 2, 3)
HEADER = json.dumps(
    {
        "inputs": [
            {"name": "x1", "shape": [1, 1], "datatype": "FP32", "parameters": {"binary_data_size": 4}},
            {"name": "x2", "shape": [1, 3], "datatype": "INT32", "parameters": {"binary_data_size": 12}},
        ]
    }
)


def _json(x1: Any = (1.0,), x2: Any = (1, 2, 3), shape: tuple[int, ...] = (1, 1)) -> str:
    first = {"name": "x1", "shape": shape, "datatype": "FP32", "data": x1}
    return json.dumps({"inputs": [first, {"name": "x2", "shape": [1, 3], "datatype": "INT32", "data": x2}]})


def _port(url: str) -> int:
    return ServerUrl.parse(url).port


def _ask(port: int, body: str | bytes | None = None, path: str = INFER, method: str = "POST", **headers: str) -> Any:
    """Status and JSON of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content else None
    finally:
        connection.close()


def _binary(port: int, header: str, length: str | None = None) -> Any:
    """Answer to a row in binary behind this header, with ``length`` in place of the header's own."""
    stated = str(len(header)) if length is None else length
    return _ask(port, header.encode() + ROW, **{LENGTH.replace("-", "_"): stated})


@pytest.fixture(scope="module")
def server(adder_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server behind a proxy with small limits."""
    log_path = tmp_path_factory.mktemp("proxied") / "server.log"
    options = ProxyOptions(proxy=True, proxy_body_mib=4, proxy_json_mib=1, proxy_in_flight=16)
    launch = partial(local_server, adder_repository, log_path=log_path)
    with proxied_server(launch, options, ANY_PORTS, log_path) as server:
        server.load_model("adder", timeout_s=60)
        yield server
        assert server.poll() is None


@pytest.fixture(scope="module")
def port(server: TritonServer) -> int:
    return _port(server.http_url)


def _sum(answer: Any) -> float:
    status, content = answer
    assert status == 200, content
    return float(content["outputs"][0]["data"][0])


ODD_JSON = '{"inputs":[{"name":"x1","shape":[1099511627776,1],"datatype":"FP32","data":[1]}]}'


def test_probe_of_a_models_health_passes(server: TritonServer) -> None:
    for url in server.urls:
        probe(["--server-url", str(url), "--model-name", "adder", "--timeout-s", "60"])


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (ODD_JSON, "no 'shape' of numbers"),
        (_json(shape=(2**28, 1)), "has 1 values, its shape needs 268435456"),
        (_json(x2=(4294967297, 2, 3)), "has the value 4294967297, which does not fit INT32"),
        (_json(x1=(float("nan"),)), "the number NaN"),
        (_json(x1=(float("inf"),)), "the number Infinity"),
        ("[" * 500_000, "nested too deeply"),
        ("", "can't be read"),
    ],
)
def test_harmful_json_is_refused_and_the_server_lives(port: int, body: str, told: str) -> None:
    status, content = _ask(port, body)
    assert status == 400 and told in content["error"]
    assert _sum(_ask(port, _json())) == 7


@pytest.mark.parametrize(
    "header",
    [
        ODD_JSON,
        ODD_JSON.replace('"data"', '"d\\u0061ta"'),
        ODD_JSON + " " * 100_000,  # longer than a buffer of the proxy
        " " * 100_000 + ODD_JSON,
        _json(x2=(4294967297, 2, 3)),
        HEADER.replace("[1, 1]", "[4294967297, 1]").replace("[1, 3]", "[4294967297, 3]"),
        HEADER.replace("[1, 1]", "[4194304, 2097152, 2097152, 1]"),
    ],
)
def test_harmful_json_before_binary_tensors_is_refused(port: int, header: str) -> None:
    status, content = _binary(port, header)
    assert status == 400 and "input 'x" in content["error"]
    assert _sum(_binary(port, HEADER)) == 7


@pytest.mark.parametrize("length", ["-5", "+5", "5x", "", "99999999999999999999"])
def test_length_of_the_json_is_one_number(port: int, length: str) -> None:
    status, content = _binary(port, HEADER, length)
    assert status == 400 and f"{LENGTH} is not one number" in content["error"]
    status, content = _ask(port, HEADER.encode() + ROW, **{LENGTH: str(len(HEADER)), LENGTH.lower(): "0"})
    assert status == 400 and f"{LENGTH} is not one number" in content["error"]
    status, content = _binary(port, HEADER, "5000")
    assert status == 400 and "more than the body's length" in content["error"]


def test_good_requests_are_answered(server: TritonServer, port: int) -> None:
    assert _sum(_ask(port, _json())) == 7
    assert _sum(_ask(port, _json(), path="/v2/models/adder/versions/1/infer")) == 7
    assert _sum(_binary(port, HEADER)) == 7
    assert _sum(_binary(port, HEADER + " " * 100_000)) == 7  # by way of the check
    named = HEADER.replace('{"inputs"', '{"id": "\\"data\\" 12345678901", "inputs"')
    assert _sum(_binary(port, named)) == 7
    random = np.random.default_rng(0)
    x1, x2 = random.random((64, 1), np.float32), random.integers(0, 500, (64, 3), np.int32)
    x2[:2] = np.frombuffer(b'"data": 1234567890\\u0061', np.int32).reshape(2, 3)  # looks like JSON
    for client in (tritonclient.http, tritonclient.grpc):
        address = ServerUrl.parse(server.http_url if client is tritonclient.http else server.grpc_url).address
        tensors = [client.InferInput("x1", x1.shape, "FP32"), client.InferInput("x2", x2.shape, "INT32")]
        for tensor, values in zip(tensors, (x1, x2), strict=True):
            tensor.set_data_from_numpy(values)
        asking = client.InferenceServerClient(address)
        answer = asking.infer("adder", tensors).as_numpy("y")
        np.testing.assert_array_equal(answer, x1 + x2.sum(axis=1, keepdims=True, dtype=np.float32))
        asking.close()


def test_large_bodies_are_refused_with_the_limit(server: TritonServer, port: int) -> None:
    status, content = _ask(port, b" " * 20_000_000)
    assert status == 413 and "at most 4194304 bytes" in content["error"]
    status, content = _ask(port, b" " * 2_000_000)
    assert status == 413 and "at most 1048576 bytes pass: send binary tensors" in content["error"]
    status, content = _binary(port, HEADER + " " * 2_000_000)
    assert status == 413 and "at most 1048576 bytes" in content["error"]
    with grpc.insecure_channel(ServerUrl.parse(server.grpc_url).address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.ModelInferRequest(model_name="adder", raw_input_contents=[b" " * 20_000_000])
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(request, timeout=60)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "at most 4194304 bytes" in refused.value.details()
        request = service_pb2.ModelInferRequest(model_name="adder", id="a" * 10_000)
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(request, timeout=60, compression=grpc.Compression.Gzip)
        assert "does not pass compressed messages" in refused.value.details()


def test_what_the_proxy_does_not_pass(port: int) -> None:
    refused = [
        (404, "/v2/models/adder/generate", "POST", {}),
        (404, "/v2/models/adder/generate_stream", "POST", {}),
        (404, "/metrics", "GET", {}),
        (404, "/v2/models/adder/%69nfer", "POST", {}),
        (405, INFER, "GET", {}),
        (405, "/v2/models/adder", "POST", {}),
        (411, INFER, "POST", {"Transfer_Encoding": "chunked"}),
        (415, INFER, "POST", {"Content_Encoding": "gzip"}),
    ]
    for status, path, method, headers in refused:
        body = b"0\r\n\r\n" if "Transfer_Encoding" in headers else None
        found, content = _ask(port, body, path, method, **headers)
        assert (found, "the proxy" in content["error"]) == (status, True), (path, content)


def test_endpoints_that_are_open_stay_open_and_the_others_need_the_key(server: TritonServer, port: int) -> None:
    for path in ("/v2", "/v2/models/adder", "/v2/models/adder/config", "/v2/models/adder/stats", "/v2/models/stats"):
        assert _ask(port, path=path, method="GET")[0] == 200
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/adder/ready"):
        assert _ask(port, path=path, method="GET")[0] == 200
    metrics = http.client.HTTPConnection("127.0.0.1", _port(server.metrics_url.removesuffix("/metrics")), timeout=60)
    metrics.request("GET", "/metrics")
    assert b"nv_inference_count" in metrics.getresponse().read()
    metrics.close()
    for url in server.urls:
        with pytest.raises(ServerError, match="key"), admin_client(url, timeout_s=60, with_key=False) as client:
            client.index()
        with admin_client(url, timeout_s=60) as client:
            assert [entry["name"] for entry in client.index()] == ["adder"]


def test_the_server_itself_answers_inference_to_its_proxy_alone(server: TritonServer) -> None:
    assert server.pid is not None
    options = dict(part.split("=") for part in psutil.Process(server.pid).cmdline() if "-port=" in part)
    status, content = _ask(int(options["--http-port"]), _json())
    assert status == 403 and "is restricted" in content["error"]
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{options['--grpc-port']}")
    tensor = tritonclient.grpc.InferInput("x1", [1, 1], "FP32").set_data_from_numpy(np.ones((1, 1), np.float32))
    with pytest.raises(tritonclient.utils.InferenceServerException, match="is restricted"):
        client.infer("adder", [tensor])
    client.close()
    (check,) = (
        process
        for process in psutil.Process().children(recursive=True)
        if "deployment_toolkit.proxy" in process.cmdline() and options["--http-port"] in " ".join(process.cmdline())
    )
    status, content = _ask(int(check.cmdline()[check.cmdline().index("--port") + 1]), _json())
    assert status == 403 and content["error"] == "only the proxy may ask"


async def _ask_at_once(port: int, clients: int, body: Callable[[int], tuple[bytes, str]]) -> list[tuple[int, Any]]:
    """Answers to one request of each client; all have connected before the first one asks."""
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(clients)]

    async def one(number: int) -> tuple[int, Any]:
        reader, writer = connections[number]
        content, headers = body(number)
        head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
        writer.write(head.encode() + content)
        status = int((await reader.readline()).split()[1])
        length = 0
        while (line := (await reader.readline()).lower()) != b"\r\n":
            length = int(line.split(b":")[1]) if line.startswith(b"content-length:") else length
        answer = json.loads(await reader.readexactly(length))
        writer.close()
        return status, answer

    return await asyncio.wait_for(asyncio.gather(*map(one, range(clients))), 120)


def _one_binary(number: int) -> tuple[bytes, str]:
    return HEADER.encode() + struct.pack("<f3i", number, 1, 2, 3), f"{LENGTH}: {len(HEADER)}\r\n"


def _one_json(number: int) -> tuple[bytes, str]:
    return _json(x1=[number]).encode(), ""


@pytest.mark.parametrize(("clients", "body"), [(600, _one_binary), (100, _one_json)])
def test_no_answer_is_lost_when_many_ask_at_once(
    port: int, clients: int, body: Callable[[int], tuple[bytes, str]]
) -> None:
    answers = asyncio.run(_ask_at_once(port, clients, body))
    assert [status for status, _ in answers] == [200] * clients
    assert [_sum(answer) for answer in answers] == [number + 6 for number in range(clients)]


def test_proxy_that_passes_binary_tensors_only_and_the_answer_when_the_server_is_busy(
    adder_repository: Path, tmp_path: Path
) -> None:
    options = ProxyOptions(proxy=True, proxy_binary_only=True, proxy_in_flight=1, proxy_timeout_s=4)
    launch = partial(local_server, adder_repository, log_path=tmp_path / "log")
    with proxied_server(launch, options, ANY_PORTS, tmp_path / "log") as server:
        server.load_model("adder", timeout_s=60)
        port = _port(server.http_url)
        status, content = _ask(port, _json())
        assert status == 415 and "passes binary tensors only" in content["error"]
        assert _binary(port, ODD_JSON)[0] == 415
        assert _sum(_binary(port, HEADER)) == 7

        # The first has its answer after 2.5 s, the second after 5 s; the third has waited too long by then.
        def slow(_: int) -> tuple[bytes, str]:
            return HEADER.encode() + struct.pack("<f3i", 1002.5, 1, 2, 3), f"{LENGTH}: {len(HEADER)}\r\n"

        # The server's health doesn't wait behind them.
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(asyncio.run, _ask_at_once(port, 3, slow))
            longest_s = 0.0
            while wait([asking], timeout=0.1).not_done:
                started = time.monotonic()
                assert _ask(port, path="/v2/health/live", method="GET")[0] == 200
                longest_s = max(longest_s, time.monotonic() - started)
            answers = asking.result()
        assert longest_s < 1.5
        assert {200, 503} <= {status for status, _ in answers} <= {200, 503, 504}
        assert {"error": "the server is busy: try again later"} in [content for _, content in answers]
        assert all("outputs" in content or "error" in content for _, content in answers)


def test_too_few_open_files_are_told_with_what_to_do(tmp_path: Path) -> None:
    bind = f"abns@{tmp_path.name}"
    configuration = f"global\n maxconn 1024\ndefaults\n mode http\n timeout client 1s\nfrontend a\n bind {bind}\n"
    (tmp_path / "haproxy.cfg").write_text(configuration)
    command = [
        "sh",
        "-c",
        'ulimit -n 512 && exec "$0" -db -f "$1"',
        running.find_haproxy(),
        str(tmp_path / "haproxy.cfg"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    told = running._what_it_says(done.stderr)
    assert re.fullmatch(r"it needs 2\d{3} open files and may have 512, lower --proxy-connections or .* ulimit -n", told)


def test_without_haproxy_the_error_says_what_to_install(
    adder_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(running, "_SYSTEM_FOLDERS", str(tmp_path))
    launch = partial(local_server, adder_repository, log_path=tmp_path / "log")
    with (
        pytest.raises(ServerError, match=r"--proxy needs HAProxy, which is not installed: apt-get install haproxy"),
        proxied_server(launch, ProxyOptions(proxy=True), ANY_PORTS, tmp_path / "log"),
    ):
        pass
