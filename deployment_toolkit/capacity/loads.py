"""What is offered to a server in a run of LoadGen, and what LoadGen found."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deployment_toolkit.capacity.client import LoadClient
from deployment_toolkit.capacity.schedule import Schedule
from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.results.capacity import LATE_SEND_US

LEAST_REQUESTS = 700  # one of them may be above the bound
_FEWEST_IN_FLIGHT = 32
_IN_FLIGHT_S = 1.0
_NS_PER_US, _US_PER_S = 1e3, 1e6
_MARK = ":::MLLOG "
_LATENCIES = {
    "p50 latency": "result_50.00_percentile_latency_ns",
    "p90 latency": "result_90.00_percentile_latency_ns",
    "p95 latency": "result_95.00_percentile_latency_ns",
    "p99 latency": "result_99.00_percentile_latency_ns",
    "avg latency": "result_mean_latency_ns",
}


@dataclass(frozen=True)
class OfferedLoad:
    """Arrivals at about ``rate`` requests per second for at least ``seconds``; LoadGen judges whether p99 is within
    ``budget_us``. ``positions`` is the number of prepared requests to choose from."""

    rate: float
    arrivals: Schedule
    seconds: float
    least: int
    budget_us: float
    positions: int


@dataclass(frozen=True)
class LoadResult:
    """What LoadGen found. Rates are per second; ``late`` is the share of requests that were sent more than 1 ms after
    they were due, ``refused`` the share that the server refused; ``client_cores`` is the processor time of this process
    divided by the time of the run."""

    offered: float
    completed: float
    latencies_us: dict[str, float]
    requests: int
    late: float
    refused: float
    is_valid: bool
    client_cores: float


@dataclass
class Sends:
    """What the client's side of a run counts: when each request was sent, in order, the sum of the times at which all
    ended, both in nanoseconds of one clock, and the refused requests."""

    sent_ns: list[int] = field(default_factory=list)
    done_ns: int = 0
    refused: int = 0


def most_waiting(client: LoadClient, rate: float, budget_us: float) -> int:
    """Requests in flight at which LoadGen ends a run before its time: those of a second or of three budgets, but no
    more than the client can have."""
    seconds = max(_IN_FLIGHT_S, 3 * budget_us / _US_PER_S)
    return min(client.most_in_flight, max(_FEWEST_IN_FLIGHT, math.ceil(rate * seconds)))


def read_log(path: Path) -> dict[str, Any]:
    """Values of LoadGen's detailed log, by key."""
    lines = path.read_text(errors="replace").splitlines()
    entries = [json.loads(line.partition(_MARK)[2]) for line in lines if line.startswith(_MARK)]
    return {entry["key"]: entry["value"] for entry in entries}


def result_of(load: OfferedLoad, sends: Sends, log: Mapping[str, Any], client_cores: float) -> LoadResult:
    """The figures of a run that has ended, from LoadGen's log. Raises PerformanceError if LoadGen sends its
    requests at other times than ``schedule.py`` knows."""
    arrivals, requests = load.arrivals, len(sends.sent_ns)
    told = (log["generated_query_count"], log["generated_query_duration"], log["result_query_count"])
    expected = (len(arrivals.due_ns), arrivals.length_ns, requests)
    if told != expected:
        raise PerformanceError(
            f"LoadGen's schedule {told} is not the expected {expected}: install the version that requirements.txt names"
        )
    due_ns = arrivals.due_ns[:requests]
    # LoadGen does not tell when it started, but the average latency from then on.
    started_ns = (sends.done_ns - int(due_ns.sum())) / requests - log["result_mean_latency_ns"]
    late_us = (np.array(sends.sent_ns) - due_ns - started_ns) / _NS_PER_US
    return LoadResult(
        offered=log["result_scheduled_samples_per_sec"],
        completed=log["result_completed_samples_per_sec"],
        latencies_us={name: log[key] / _NS_PER_US for name, key in _LATENCIES.items()},
        requests=requests,
        late=float((late_us > LATE_SEND_US).mean()),
        refused=sends.refused / requests,
        is_valid=log["result_validity"] == "VALID",
        client_cores=client_cores,
    )
