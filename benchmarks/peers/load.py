"""Load generator wrk: one connection per request in flight, each sends its next request after the answer to the one
before. It is written in C and needs a few per cent of a core; a client in Python would need one of the two cores that
it shares with the server.

Its percentiles are corrected for coordinated omission, as in wrk itself: a pause of the server counts once for each
request that would have arrived during it.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.sample import BodyFiles, Sample, write_bodies
from benchmarks.peers.wire import KSERVE_BINARY, kserve_path
from deployment_toolkit.core import Arrays
from deployment_toolkit.errors import PerformanceError, UsageError
from deployment_toolkit.process import run

_SCRIPT = Path(__file__).with_name("post_bodies.lua")
_TIMEOUT_S = 60
# Requests in flight at the end of a measurement are not counted: one round of five is an acceptable loss.
_ROUNDS = 5
_LONGEST_S = 40


@dataclass(frozen=True)
class Load:
    """Result of a load with requests of ``rows`` rows, ``concurrency`` at a time; ``errors`` counts the requests
    without an answer or with an error."""

    rows: int
    concurrency: int
    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int

    @property
    def requests_per_s(self) -> float:
        """Requests per second that were answered without an error."""
        return max(0, self.requests - self.errors) / self.seconds

    @property
    def rows_per_s(self) -> float:
        """Rows of these requests."""
        return self.requests_per_s * self.rows

    @property
    def p50_us(self) -> float:
        """Median latency in microseconds."""
        return self.p50_ms * 1e3

    @property
    def seconds_needed(self) -> int:
        """Duration of a measurement in which every connection gets several answers."""
        return min(_LONGEST_S, math.ceil(_ROUNDS * self.concurrency * self.seconds / max(1, self.requests)))


def find_wrk(given: str) -> str:
    """Path of the program. Raises UsageError with the remedy if it is missing."""
    found = shutil.which(given)
    if found is None:
        raise UsageError(
            f"the load generator {given} is not there: apt-get install wrk; without root: apt-get download wrk "
            "libluajit2-5.1-2, dpkg -x each to a folder, and give --wrk FOLDER/usr/bin/wrk with LD_LIBRARY_PATH"
        )
    return found


def post_rows(
    wrk: str,
    server_url: str,
    model_name: str,
    x: Arrays,
    *,
    rows: int,
    concurrency: int,
    seconds: float,
    warmup_seconds: float = 1,
) -> Load:
    """Posts a model's inputs ``x``, in requests of ``rows`` rows, to a Triton server's HTTP URL, after a warm-up that
    does not count.

    Raises DataError if ``x`` has fewer rows, PerformanceError if a request has no answer or an error.
    """
    with tempfile.TemporaryDirectory(prefix="posted_") as name:
        folder = Path(name)
        sample = Sample(x, np.full(len(next(iter(x.values()))), np.nan))
        bodies, log = write_bodies(sample, KSERVE_BINARY, rows, folder), folder / "wrk.log"
        url = f"{server_url}{kserve_path(model_name)}"
        for duration in (warmup_seconds, seconds):
            load = post(wrk, url, bodies, rows=rows, concurrency=concurrency, seconds=duration, log=log)
    if load.errors or not load.requests:
        raise PerformanceError(f"{model_name}: {load.errors} of {load.requests} requests of {rows} rows failed")
    return load


def post(wrk: str, url: str, bodies: BodyFiles, *, rows: int, concurrency: int, seconds: float, log: Path) -> Load:
    """Posts requests for ``seconds``, rounded up to whole seconds. Raises PerformanceError if wrk fails."""
    argv: list[str | Path] = [
        *(wrk, "--threads", "1", "--connections", str(concurrency), "--duration", f"{math.ceil(seconds)}s"),
        *("--timeout", f"{_TIMEOUT_S}s", "--script", str(_SCRIPT), url, "--"),
        *(f"{name}: {value}" for name, value in bodies.headers.items()),
        "--bodies",
        *bodies.paths,
    ]
    completed = run(argv, timeout_s=seconds + _TIMEOUT_S, log_path=log, poll_s=0.02)
    return read_report(completed.stdout, rows, concurrency)


def read_report(text: str, rows: int, concurrency: int) -> Load:
    """Reads the last line that the script prints. Raises PerformanceError if there is none."""
    try:
        report = json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise PerformanceError(f"wrk reported nothing: {text[-300:]}") from error
    return Load(
        rows=rows,
        concurrency=concurrency,
        requests=report["requests"],
        seconds=report["duration_us"] / 1e6,
        p50_ms=report["p50_us"] / 1e3,
        p99_ms=report["p99_us"] / 1e3,
        errors=report["socket_errors"] + report["status_errors"] + report["timeouts"],
    )
