"""Servers as pods of a cluster: started, put into rotation when they are ready, and ended as the kubelet and the
controller of the endpoints end a pod.

Source: "Pod Lifecycle, Termination of Pods" of Kubernetes' documentation. A deleted pod leaves the endpoints while its
preStop action runs; then its program gets SIGTERM, and SIGKILL when the grace period, which began with the deletion, is
over. Server and gateway are real; the kubelet and the controllers are this module.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from benchmarks.rollouts.asking import get
from benchmarks.rollouts.chart import PodTemplate
from benchmarks.rollouts.envoy import Envoy
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import ServerError
from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.process import Child, child, environment
from deployment_toolkit.proxy.running import find_haproxy
from deployment_toolkit.server_access.ports import choose_free, listens, port_options
from deployment_toolkit.triton_server.server_options import own_regions
from deployment_toolkit.triton_server.starting import what_it_says

_START_S = 120.0
_LOOK_S = 0.05
_START_ATTEMPTS = 3
_MOST_ENDING = 16
_PROTOCOLS = ("http", "grpc", "metrics")
_PLACE = re.compile(r"--(model-repository|(http|grpc|metrics)-(address|port))=")
_POD_PORT, _SERVER_PORT = 8000, 9000  # in the chart: the first of the pod's three, and of the server behind a proxy
ENDPOINT_S = 1.0
_PORT_TAKEN = "already in use"
_PROGRAM = "deployment_toolkit.triton_server.embedded"  # what ``tritonserver`` is in this project's image


@dataclass(frozen=True)
class PodEnd:
    """How a pod ended: the time from the first signal to its end, seconds, and whether SIGKILL was needed."""

    took_s: float
    killed: bool


@dataclass(frozen=True)
class RunningContainer:
    """A program of a pod, and the signal that tells it to end."""

    process: Child
    listens_at: tuple[int, ...]
    log_path: Path
    stop_signal: signal.Signals
    is_proxy: bool = False


@dataclass(eq=False)
class Pod:
    """A running server; ``ports`` are the pod's, by protocol: the proxy's if there is one."""

    name: str
    service: str
    repository: Path
    ports: Mapping[str, int]
    containers: tuple[RunningContainer, ...]
    deleted: bool = False

    @property
    def has_ended(self) -> bool:
        return all(one.process.poll() is not None for one in self.containers)

    def why_not_ready(self, path: str) -> str:
        """Nothing if this pod's programs, and no others on its ports, listen and answer the readiness probe."""
        for one in self.containers:
            if not listens(one.process.pid, one.listens_at):
                return f"its {one.log_path.stem} does not listen at all of its ports {[*one.listens_at]}"
        try:
            status, _ = get(f"{LOOPBACK}:{self.ports['http']}", path, 1)
        except (OSError, HTTPException) as error:
            return f"GET {path} has no answer ({error!r})"
        return "" if status == HTTPStatus.OK else f"GET {path} is answered with status {status}"


class Fleet:
    """Pods of several services behind a gateway. Leaving the block ends those that still run. ``endpoint_s`` is the
    time from a pod's deletion until the gateway is told to forget it; a cluster's is not known to the chart."""

    def __init__(self, gateway: Envoy, template: PodTemplate, folder: Path, endpoint_s: float = ENDPOINT_S) -> None:
        self.template, self._endpoint_s = template, endpoint_s
        self._gateway, self._folder = gateway, folder
        self._pods: dict[str, list[Pod]] = {}  # endpoints, by service
        self._number = 0
        self._stack = contextlib.ExitStack()
        self._terminations = ThreadPoolExecutor(_MOST_ENDING, thread_name_prefix="kubelet")
        self._departures = ThreadPoolExecutor(_MOST_ENDING, thread_name_prefix="endpoints")
        self._ending: list[Future[PodEnd]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._stack:
            with contextlib.suppress(ServerError, OSError, HTTPException):  # the gateway may be what failed
                self._empty()
            self._terminations.shutdown()
            self._departures.shutdown()

    def pods(self, service: str) -> list[Pod]:
        """Pods that are ready and not deleted, the oldest first."""
        with self._lock:
            return [pod for pod in self._pods.get(service, ()) if not pod.deleted]

    def start(self, service: str, repository: Path, count: int = 1) -> list[Pod]:
        """Starts pods that serve a model repository and puts them into rotation when they are ready. Call it in a
        thread that outlives the fleet. Raises ServerError if one ends or is not ready in time."""
        pods = [self._run(service, repository) for _ in range(count)]
        pods = [self._ready(pod) for pod in pods]
        with self._lock:
            self._pods.setdefault(service, []).extend(pods)
            self._route(service)
        return pods

    def delete(self, pod: Pod) -> None:
        """Deletes a pod: returns at once."""
        pod.deleted = True
        self._ending.append(self._terminations.submit(self._terminate, pod))

    def wait_ended(self) -> list[PodEnd]:
        """How the pods that were deleted since the last call have ended; returns when all have."""
        ending, self._ending = self._ending, []
        wait(ending)
        return [one.result() for one in ending]

    def _empty(self) -> None:
        """Tells all pods to end, without connections for which they would wait."""
        for service, pods in self._pods.items():
            self._gateway.set_endpoints(service, [])
            for one in (one for pod in pods for one in pod.containers):
                _signal(one, one.stop_signal)

    def _run(self, service: str, repository: Path) -> Pod:
        self._number += 1
        name = f"{service}-{self._number}"
        folder = self._folder / name
        folder.mkdir(parents=True)
        free = choose_free(dict.fromkeys([*_PROTOCOLS, *(f"inner {one}" for one in _PROTOCOLS)]))
        ports, inner = ({one: free[f"{place}{one}"] for one in _PROTOCOLS} for place in ("", "inner "))
        if not self.template.proxy:
            return Pod(name, service, repository, ports, (self._server(repository, ports, folder),))
        containers = (self._server(repository, inner, folder), self._proxy(ports, inner, folder))
        return Pod(name, service, repository, ports, containers)

    def _server(self, repository: Path, ports: Mapping[str, int], folder: Path) -> RunningContainer:
        region = self._stack.enter_context(own_regions())
        command: list[str | Path] = [sys.executable, "-m", _PROGRAM, *port_options(ports), region]
        command += [f"--model-repository={repository}", *_without_places(self.template.arguments)]
        # TMPDIR: the program becomes the server and removes nothing behind it.
        env = environment(prepend={"PYTHONPATH": [ROOT]}) | {"TMPDIR": str(folder)}
        log = folder / "server.log"
        process = self._stack.enter_context(child(command, env=env, stdout=log))
        return RunningContainer(process, (*ports.values(),), log, signal.SIGTERM)

    def _proxy(self, ports: Mapping[str, int], inner: Mapping[str, int], folder: Path) -> RunningContainer:
        """HAProxy before the server; its image's STOPSIGNAL is SIGUSR1."""
        text = self.template.proxy
        for number, protocol in enumerate(ports):
            text = text.replace(f"bind :{_POD_PORT + number}", f"bind {LOOPBACK}:{ports[protocol]}")
            text = text.replace(f"{LOOPBACK}:{_SERVER_PORT + number}", f"{LOOPBACK}:{inner[protocol]}")
        config, log = folder / "haproxy.cfg", folder / "proxy.log"
        config.write_text(text)
        process = self._stack.enter_context(child([find_haproxy(), "-db", "-f", config], stdout=log))
        return RunningContainer(process, (*ports.values(),), log, signal.SIGUSR1, is_proxy=True)

    def _ready(self, pod: Pod, attempt: int = 1) -> Pod:
        """The pod, or one with other ports if another program took one of its own."""
        deadline = time.monotonic() + _START_S
        while why_not := pod.why_not_ready(self.template.readiness_path):
            ended = next((one for one in pod.containers if one.process.wait(_LOOK_S) is not None), None)
            if ended is None and time.monotonic() < deadline:
                continue
            logs = {one.log_path: one.log_path.read_text(errors="replace") for one in pod.containers}
            if ended is None:
                said = "; ".join(f"{path} says: {what_it_says(log)}" for path, log in logs.items())
                raise ServerError(f"pod {pod.name} is not ready after {_START_S:g} s: {why_not}; {said}")
            log = logs[ended.log_path]
            if _PORT_TAKEN in log and attempt < _START_ATTEMPTS:
                return self._ready(self._run(pod.service, pod.repository), attempt + 1)
            how = ended.process.how_it_ended()
            raise ServerError(f"pod {pod.name} {how}: {what_it_says(log)}; its log is {ended.log_path}")
        return pod

    def _terminate(self, pod: Pod) -> PodEnd:
        deleted = time.monotonic()
        leaving = self._departures.submit(self._leave, pod)
        stopping = sorted(pod.containers, key=self._pre_stop_s)
        told = deleted + self._pre_stop_s(stopping[0])
        for one in stopping:
            time.sleep(max(0.0, deleted + self._pre_stop_s(one) - time.monotonic()))
            _signal(one, one.stop_signal)
        late = []
        for one in stopping:
            if one.process.wait(max(0.0, deleted + self.template.grace_s - time.monotonic())) is None:
                late.append(one)
                _signal(one, signal.SIGKILL)
                one.process.wait()
        took_s = time.monotonic() - told
        leaving.result()
        return PodEnd(took_s, bool(late))

    def _pre_stop_s(self, one: RunningContainer) -> float:
        return self.template.proxy_pre_stop_s if one.is_proxy else self.template.pre_stop_s

    def _leave(self, pod: Pod) -> None:
        time.sleep(self._endpoint_s)
        with self._lock:
            self._pods[pod.service].remove(pod)
            self._route(pod.service)

    def _route(self, service: str) -> None:
        self._gateway.set_endpoints(service, [pod.ports for pod in self._pods[service]])


def _without_places(arguments: Sequence[str]) -> list[str]:
    """Arguments of the chart without ports, addresses and the folder."""
    return [text for text in arguments if not _PLACE.match(text)]


def _signal(one: RunningContainer, number: signal.Signals) -> None:
    """To the program alone, as to the first process of a container."""
    if one.process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.process.pid, number)


def metrics_text(pod: Pod) -> str:
    """What a server tells at its metrics port."""
    return get(f"{LOOPBACK}:{pod.ports['metrics']}", "/metrics", 5)[1].decode()
