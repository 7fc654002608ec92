"""Server of a checkout of this project, run by a Python of its choice, and a client of one model in it."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import Arrays
from deployment_toolkit.errors import UsageError
from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.process import child, environment, run
from deployment_toolkit.process_memory import peak_rss_bytes, process_tree
from deployment_toolkit.server_access.ports import choose_free
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.grpc import GrpcTransport
from deployment_toolkit.triton_server.remote import TritonServer

MODEL = "model"
_TIMEOUT_S = 120.0
_WARMING = 5  # one part in so many of a turn's requests comes first and is not counted
_TURN_S = 0.6


@dataclass(frozen=True)
class CheckoutServer:
    """Server of one checkout and a connection to its model. ``start_s`` are the seconds until it was ready."""

    server: TritonServer
    transport: GrpcTransport
    pid: int
    start_s: float

    def load_s(self) -> float:
        """Loads the model; returns the seconds until it answers."""
        begun = time.monotonic()
        self.server.load_model(MODEL, _TIMEOUT_S)
        return time.monotonic() - begun

    def load_anew_s(self) -> float:
        """Unloads the model if it is loaded, then loads it; returns the seconds of the load."""
        if self.server.has_loaded(MODEL):
            self.server.unload_model(MODEL)
            self.server.wait_unloaded(MODEL, _TIMEOUT_S)
        return self.load_s()

    def request_s(self, x: Arrays, count: int) -> float:
        """Seconds per request, median of one turn of ``count`` requests."""
        taken = []
        for _ in range(count):
            begun = time.perf_counter()
            self.transport.send(x).result(_TIMEOUT_S)
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken[count // _WARMING :])

    def row_s(self, x: Arrays, rows: int, concurrency: int) -> float:
        """Seconds per row with so many requests in flight, over one turn."""
        begun = time.perf_counter()
        under_way = deque(self.transport.send(x) for _ in range(concurrency))
        answered = 0
        while under_way:
            under_way.popleft().result(_TIMEOUT_S)
            answered += 1
            if time.perf_counter() - begun < _TURN_S:
                under_way.append(self.transport.send(x))
        return (time.perf_counter() - begun) / (answered * rows)

    def peak_bytes(self) -> int:
        """Peak memory so far of the largest of the server's processes."""
        return max(peak_rss_bytes(process.pid) for process in process_tree(self.pid))


@contextlib.contextmanager
def serve(checkout: Path, python: Path, repository: Path, folder: Path, concurrency: int) -> Iterator[CheckoutServer]:
    """Yields a server of a checkout over ``repository``, whose model ``MODEL`` is not loaded. ``python`` runs it, with
    that Python's packages; ``folder`` gets its log. Raises UsageError if it doesn't start."""
    log, ready = folder / "server.log", folder / "ready"
    ports = choose_free({"http": None, "grpc": None, "metrics": None})
    interpreter = [str(python), "-P"]  # without -P, the current folder would hide the other checkout
    argv = [*interpreter, "-m", "deployment_toolkit.triton_server", "--model-repository", str(repository)]
    argv += [part for name, port in ports.items() for part in (f"--{name}-port", str(port))]
    argv += ["--log-path", str(log), "--ready-file", str(ready)]
    env = environment(prepend={"PYTHONPATH": [checkout.resolve()], "PATH": [python.parent]})
    code = "import deployment_toolkit as toolkit; print(toolkit.__path__[0])"
    found = Path(run([*interpreter, "-c", code], env=env, log_path=folder / "found").stdout.strip())
    if found.parent != checkout.resolve():
        raise UsageError(f"{checkout} can't be compared: Python finds {found} in its place")
    begun = time.monotonic()
    with child(argv, env=env, stdout=folder / "output") as process:
        while not ready.exists():
            if process.wait(0.02) is not None:
                raise UsageError(f"the server of {checkout} does not start: {process.output()[0].strip()}")
        start_s = time.monotonic() - begun
        server = TritonServer.from_url(f"http://{LOOPBACK}:{ports['http']}")
        url = ServerUrl.parse(f"grpc://{LOOPBACK}:{ports['grpc']}")
        with contextlib.closing(GrpcTransport(url, MODEL, "1", concurrency)) as transport:
            yield CheckoutServer(server, transport, process.pid, start_s)
