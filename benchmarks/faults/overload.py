"""More requests than the server can answer, to a model whose queue has a limit: each is answered right or refused, and
after the overload one request is answered at once."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from benchmarks.faults.episode import Outcome, Setting
from benchmarks.faults.subjects import HOSTS, LOAD_S, AskedModel, deploy, is_right
from deployment_toolkit.core import Arrays, DeviceKind, Host
from deployment_toolkit.deploying.queue_policy import INSTANCES, QueuePolicy
from deployment_toolkit.errors import InferenceError, RefusedError
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.base import Response, Transport, open_transport
from deployment_toolkit.triton_server.local import local_server

_QUEUE = 16
_IN_FLIGHT = 200
_ANSWER_S = 60.0
_RECOVERY_S = 3.0


def overload(setting: Setting, number: int, random: np.random.Generator, outcome: Outcome) -> None:
    """One host over one protocol; up to 200 requests in flight, of which 16 may wait."""
    host, protocol = HOSTS[number % 2], ("grpc", "http")[number // 2 % 2]
    subject = setting.subjects[int(random.integers(len(setting.subjects)))]
    outcome.subject = f"{host} host, {protocol}"
    repository = setting.folder / "overload" / subject.name
    if not repository.exists():
        deploy(
            repository,
            subject,
            queue=QueuePolicy(max_queue_size=_QUEUE),
            engine_count_per_device={DeviceKind.CPU: INSTANCES},
        )
    outcome.add("starts")
    with local_server(repository, log_path=setting.output_dir / "overload.log", env=setting.environment) as server:
        server.load_model(subject.served_name(host), LOAD_S)
        url = ServerUrl.parse(server.grpc_url if protocol == "grpc" else server.http_url)
        transport = open_transport(url, subject.served_name(host), "", _IN_FLIGHT)
        try:
            _send(transport, subject, setting.seconds, random, outcome)
        finally:
            transport.close()
        _ask_once(url, subject, host, random, outcome)
        outcome.add("crashes", int(server.poll() is not None), "the server ended by itself")


def _send(
    transport: Transport, subject: AskedModel, seconds: float, random: np.random.Generator, outcome: Outcome
) -> None:
    deadline = time.monotonic() + seconds
    under_way: deque[tuple[Response, Arrays]] = deque()
    while under_way or time.monotonic() < deadline:
        while time.monotonic() < deadline and len(under_way) < _IN_FLIGHT:
            batch, expected = subject.batch(random)
            under_way.append((transport.send(batch.x), expected))
        if under_way:
            _take(*under_way.popleft(), subject, outcome)


def _take(response: Response, expected: Arrays, subject: AskedModel, outcome: Outcome) -> None:
    try:
        answer = response.result(_ANSWER_S)
    except RefusedError:
        outcome.add("refused")
    except (InferenceError, TimeoutError) as error:
        outcome.add("unanswered", 1, str(error))
    else:
        outcome.add("good")
        outcome.add("wrong", int(not is_right(subject, answer, expected)), "in overload")


def _ask_once(url: ServerUrl, subject: AskedModel, host: Host, random: np.random.Generator, outcome: Outcome) -> None:
    transport = open_transport(url, subject.served_name(host), "", 1)
    batch, expected = subject.batch(random)
    begun = time.monotonic()
    _take(transport.send(batch.x), expected, subject, outcome)
    took_s = time.monotonic() - begun
    outcome.add("others", int(took_s > _RECOVERY_S), f"the first request after the overload took {took_s:.1f} s")
    transport.close()
