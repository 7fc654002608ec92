"""More requests than a model can answer, at a steady rate whatever the answers: an open loop."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deployment_toolkit.core import Batch
from deployment_toolkit.deploying.model_config import complete_text, parse_config
from deployment_toolkit.deploying.queue_policy import QueuePolicy
from deployment_toolkit.errors import RefusedError
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.grpc import GrpcTransport
from deployment_toolkit.triton_server.remote import TritonServer

SERVED_SLOW = Path(__file__).with_name("served_slow.py")
SERVICE_S = 0.04
MAX_BATCH_SIZE = 4
INSTANCES = 2
CAPACITY = INSTANCES * MAX_BATCH_SIZE / SERVICE_S  # requests of a row per second
_CONFIG = f"""
backend: "python"
max_batch_size: {MAX_BATCH_SIZE}
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ 1 ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }} ]
instance_group [ {{ count: {INSTANCES} kind: KIND_CPU }} ]
dynamic_batching {{ preferred_batch_size: [ {MAX_BATCH_SIZE} ] }}
parameters {{ key: "service_s" value {{ string_value: "{SERVICE_S}" }} }}
"""


def add_slow_model(repository: Path, name: str, policy: QueuePolicy, service_s: float = SERVICE_S) -> None:
    """Puts the model of served_slow.py into a repository, behind a queue with these limits."""
    config = parse_config(f'name: "{name}"{_CONFIG}')
    config.parameters["service_s"].string_value = str(service_s)
    policy.write(config.dynamic_batching)
    (repository / name / "1").mkdir(parents=True)
    shutil.copyfile(SERVED_SLOW, repository / name / "1" / "model.py")
    (repository / name / "config.pbtxt").write_text(complete_text(config))


def batches(count: int) -> Iterator[Batch]:
    """Requests of a row each, with the numbers from 0."""
    for number in range(count):
        yield Batch(np.zeros(1, np.int32), {"x": np.full((1, 1), number, np.float32)})


@dataclass(frozen=True)
class Outcome:
    """Times to the right answers and to the refusals, in seconds; and the time after the load until a single request,
    repeated if it is refused, is answered."""

    answered_s: list[float]
    refused_s: list[float]
    after_s: float


def overload(server: TritonServer, model: str, *, rate: float, seconds: float) -> Outcome:
    """Sends requests of a row at ``rate`` per second. Raises an AssertionError for a wrong answer, and the error of any
    request that failed otherwise than by being refused. The request after the load is sent when the last of the load
    has been, not answered."""
    outcome = Outcome([], [], 0.0)
    with closing(GrpcTransport(ServerUrl.parse(server.grpc_url), model, "1", 1)) as transport:
        requests: list[_Timed] = []
        started = time.monotonic()
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
            requests.append(_Timed(transport, float(number)))
        load_ended = time.monotonic()
        last = _Timed(transport, -1.0)
        for request in requests:
            (outcome.answered_s if request.is_answered() else outcome.refused_s).append(request.took_s)
        while not last.is_answered():
            last = _Timed(transport, -1.0)
        return Outcome(outcome.answered_s, outcome.refused_s, last.ended - load_ended)


class _Timed:
    def __init__(self, transport: GrpcTransport, value: float) -> None:
        self._value, self._sent, self._over = value, time.monotonic(), threading.Event()
        self.ended = 0.0
        self._response = transport.send({"x": np.full((1, 1), value, np.float32)})
        self._response.when_done(self._end)

    @property
    def took_s(self) -> float:
        return self.ended - self._sent

    def is_answered(self) -> bool:
        assert self._over.wait(30)
        try:
            assert self._response.result(1)["y"].tolist() == [[self._value + 1]]
        except RefusedError:
            return False
        return True

    def _end(self) -> None:
        self.ended = time.monotonic()
        self._over.set()
