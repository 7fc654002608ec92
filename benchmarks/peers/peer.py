"""Peers, the alternative servers, each with the settings that its documentation recommends and that were best on two
cores; benchmarks/README.md names the documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.wire import KSERVE_BASE64, NUMBERS, RECORDS, Wire, kserve_path

_SERVERS = "benchmarks.peers"
_MODEL_NAME = "WidenDeep"
_BATCH_REQUESTS = 64  # the largest number of requests in flight
_BATCH_WAIT_S = 0.0001


@dataclass(frozen=True)
class Launch:
    """Arguments of a peer's server: its environment's interpreter, the model file or folder, a port, and a
    separate empty folder with a short path."""

    python: Path
    model: Path
    port: int
    folder: Path


@dataclass(frozen=True)
class PeerCommand:
    """Command line of a server, and its additional environment variables."""

    argv: list[str | Path]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """A peer. ``name`` is also the name of its folder, which has its requirements and its server; ``package`` is the
    package whose version is shown. ``settings`` describes the settings in ``command`` for people."""

    name: str
    title: str
    package: str
    wire: Wire
    path: str
    ready_path: str
    command: Callable[[Launch], PeerCommand]
    settings: str

    @property
    def requirements(self) -> Path:
        """Path of the file with the pinned packages of its environment."""
        return Path(__file__).parent / self.name / "requirements.txt"


def _fastapi(launch: Launch) -> PeerCommand:
    # Measured: a single onnxruntime inference leaves cores idle, two at a time fill them; OpenVINO leaves none idle.
    options = ["--threads", "2", "--callers", "2" if launch.model.is_file() else "1"]
    return PeerCommand([*_module(launch, "fastapi.server"), *options])


def _litserve(launch: Launch) -> PeerCommand:
    options = ["--threads", "2", "--workers", "1", *_batching()]
    return PeerCommand([*_module(launch, "litserve.server"), *options])


def _ray(launch: Launch) -> PeerCommand:
    options = ["--threads", "2", "--workers", "1", *_batching(), "--folder", str(launch.folder)]
    env = {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(launch.folder / "proxy" / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(launch.folder / "proxy" / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(launch.folder / "proxy"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(launch.folder / "proxy" / "state"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "2",
    }
    return PeerCommand([*_module(launch, "ray_serve.server"), *options], env)


def _bentoml(launch: Launch) -> PeerCommand:
    env = {"BENTOML_HOME": str(launch.folder), "BENTOML_DO_NOT_TRACK": "True"}
    service = f"{_SERVERS}.bentoml.service:WideDeep"
    argv: list[str | Path] = [
        launch.python.with_name("bentoml"),
        "serve",
        service,
        "--host",
        "127.0.0.1",
        "--port",
        str(launch.port),
    ]
    return PeerCommand([*argv, "--arg", f"model={launch.model}"], env)


def _mlserver(launch: Launch) -> PeerCommand:
    settings = {"host": "127.0.0.1", "http_port": launch.port, "grpc_port": 0, "metrics_port": 0, "debug": False}
    settings |= {"parallel_workers": 0, "metrics_endpoint": None, "gzip_enabled": False}
    model = {
        "name": _MODEL_NAME,
        "implementation": f"{_SERVERS}.mlserver.runtime.WideDeepRuntime",
        "max_batch_size": _BATCH_REQUESTS,
        "max_batch_time": _BATCH_WAIT_S,
        "parameters": {"uri": str(launch.model), "extra": {"threads": 2}},
    }
    (launch.folder / "settings.json").write_text(json.dumps(settings))
    (launch.folder / "model-settings.json").write_text(json.dumps(model))
    return PeerCommand([launch.python.with_name("mlserver"), "start", launch.folder])


def _module(launch: Launch, name: str) -> list[str | Path]:
    argv: list[str | Path] = [launch.python, "-m", f"{_SERVERS}.{name}"]
    return [*argv, "--model", launch.model, "--port", str(launch.port)]


def _batching() -> list[str]:
    return ["--max-batch-size", str(_BATCH_REQUESTS), "--batch-timeout-s", str(_BATCH_WAIT_S)]


_JOINED = f"joins up to {_BATCH_REQUESTS} requests, waits {_BATCH_WAIT_S * 1000:g} ms for more"
PEERS = (
    Peer(
        name="mlserver",
        title="MLServer",
        package="mlserver",
        wire=KSERVE_BASE64,
        path=kserve_path(_MODEL_NAME),
        ready_path=f"/v2/models/{_MODEL_NAME}/ready",
        command=_mlserver,
        settings=f"adaptive batching: {_JOINED}; inference in the server's process, 2 threads",
    ),
    Peer(
        name="bentoml",
        title="BentoML",
        package="bentoml",
        wire=NUMBERS,
        path="/predict",
        ready_path="/readyz",
        command=_bentoml,
        settings="adaptive batching up to 4096 rows; 1 worker of 2 threads",
    ),
    Peer(
        name="litserve",
        title="LitServe",
        package="litserve",
        wire=RECORDS,
        path="/predict",
        ready_path="/health",
        command=_litserve,
        settings=f"batching: {_JOINED}; fast queue; 1 worker of 2 threads",
    ),
    Peer(
        name="ray_serve",
        title="Ray Serve",
        package="ray",
        wire=RECORDS,
        path="/",
        ready_path="/",
        command=_ray,
        settings=f"request batching: {_JOINED}; throughput optimised, HAProxy; 1 replica of 2 threads",
    ),
    Peer(
        name="fastapi",
        title="FastAPI",
        package="fastapi",
        wire=RECORDS,
        path="/predict",
        ready_path="/ready",
        command=_fastapi,
        settings="uvicorn with uvloop, httptools; inferences of 2 threads, with onnxruntime 2 at a time; no batching",
    ),
)
