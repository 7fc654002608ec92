"""Options of ``run_performance_on_triton.py``: the points to measure, and the measurement."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import EvaluationMode, Mnemonic, PerformanceTool
from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.params import option
from deployment_toolkit.triton_performance_runner.client_user import ClientUser

RANDOM_DATA = "random"
ZERO_DATA = "zero"


class MeasurementMode(Mnemonic):
    """End of a measurement window: a number of requests, or a time."""

    COUNT_WINDOWS = "count_windows"
    TIME_WINDOWS = "time_windows"


class OfflineMode(Mnemonic):
    """Kind of memory that client and server share offline."""

    SYSTEM = "system"
    CUDA = "cuda"


@dataclass(frozen=True)
class LoadPoint:
    """One measurement: rows per request, and requests in flight."""

    batch: int
    concurrency: int

    @property
    def key(self) -> str:
        """Text for the point in file names."""
        return f"{self.batch}_{self.concurrency}"

    def __str__(self) -> str:
        return f"batch {self.batch}, concurrency {self.concurrency}"


@dataclass(frozen=True)
class PerformanceOptions:
    """Options of a measurement. Raises UsageError for values that can't be measured."""

    model_name: str = option("model of the server")
    result_path: Path = option("CSV to write; the tool's output goes to a file next to it with the suffix .log")
    server_url: str = option(
        "http://host:port or grpc://host:port, with TLS https:// or grpcs://; with model_analyzer only the protocol "
        "counts",
        "http://127.0.0.1:8000",
    )
    model_version: str = option("version of the model", "1")
    input_data: str = option(
        "random (rows inside the model's value ranges), zero, or perf_analyzer's own JSON file or folder of raw files",
        RANDOM_DATA,
    )
    input_shapes: list[str] = option(
        "shape of one row of an input that has free dimensions, for example x:3,224; may be repeated",
        [],
        action="append",
        nargs=None,
        metavar="NAME:SHAPE",
    )
    batch_sizes: list[int] = option("rows per request", [1])
    concurrency: list[int] = option("requests in flight", [1])
    measurement_mode: MeasurementMode = option(
        "end of a window; a measurement is three windows", MeasurementMode.COUNT_WINDOWS
    )
    measurement_interval: int = option("length of a time window in ms", 5000)
    measurement_request_count: int = option(
        "requests of a count window at least, and 8 times the concurrency; it lasts whole seconds", 50
    )
    stability_percentage: float = option(
        "settled: throughput and average latency of the three windows differ by no more than this", 10.0
    )
    retries: int = option(
        "repetitions of a measurement that did not settle, each with windows twice as long, when every point has been "
        "measured once; the point whose windows differ most comes first",
        2,
    )
    time_budget_s: float | None = option(
        "seconds that all measurements together may take, warm-up included: points that people need first are measured "
        "first, and what is left out is told and written to a file next to the CSV; default: no limit",
        None,
    )
    evaluation_mode: EvaluationMode = option(
        "offline: shared memory; online: the protocol of the URL; capacity: too, at random times",
        EvaluationMode.OFFLINE,
    )
    offline_mode: OfflineMode = option("shared memory of the offline mode", OfflineMode.SYSTEM)
    output_shared_memory_size: int = option(
        "bytes of one row of an output whose shape is free; other outputs need no option", 102400
    )
    client_user: str | None = option(
        "user of perf_analyzer's process, so that a server of that user can open its shared memory; needs root, for "
        "whom it is nobody (65534:65534) if not given",
        None,
        metavar="UID:GID",
    )
    performance_tool: PerformanceTool = option(
        "load generator: perf_analyzer measures the server at the URL; model_analyzer (installed by scripts/install.sh "
        "--model-analyzer) measures a server that it starts on the model repository",
        PerformanceTool.PERF_ANALYZER,
    )
    model_repository: Path | None = option(
        "the server's model repository: model_analyzer serves it, and value ranges are read from the model's files "
        "there if its configuration has none",
        None,
    )
    resume: bool = option(
        "keep the points in the result's CSV that were measured with the same options, model, code and host, and "
        "measure only the others; needs --model-repository",
        False,
    )
    warmup: bool = option("send unrecorded requests of every batch size first", False)
    timeout: int = option(
        "seconds that one run of perf_analyzer may take, and that Model Analyzer may take to reach the next point",
        600,
    )

    def __post_init__(self) -> None:
        for name in ("batch_sizes", "concurrency"):
            values = getattr(self, name)
            if not values or min(values) < 1:
                raise UsageError(f"--{name.replace('_', '-')} needs whole numbers from 1 on, not {values}")
        for name in ("measurement_interval", "measurement_request_count", "stability_percentage", "timeout"):
            if getattr(self, name) <= 0:
                raise UsageError(f"--{name.replace('_', '-')} must be above 0, not {getattr(self, name)}")
        for name in ("retries", "output_shared_memory_size"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{name.replace('_', '-')} can't be negative")
        if self.time_budget_s is not None and not 0 < self.time_budget_s < math.inf:
            raise UsageError(f"--time-budget-s must be a number of seconds above 0, not {self.time_budget_s}")
        if self.client_user is not None:
            ClientUser.parse(self.client_user)
        if self.performance_tool is PerformanceTool.MODEL_ANALYZER and self.model_repository is None:
            raise UsageError(
                "--performance-tool model_analyzer starts a server of its own, so it needs the repository that holds "
                "the model: give --model-repository"
            )
        if self.resume and self.model_repository is None:
            raise UsageError(
                "--resume keeps only points of the same model, which its files tell: give --model-repository"
            )
        if self.input_data not in (RANDOM_DATA, ZERO_DATA) and not Path(self.input_data).exists():
            raise UsageError(
                f"--input-data {self.input_data}: there is no such file or folder, nor is it random or zero"
            )

    @property
    def points(self) -> list[LoadPoint]:
        """Points of every batch size with every concurrency, sorted, each once."""
        pairs = itertools.product(sorted(set(self.batch_sizes)), sorted(set(self.concurrency)))
        return [LoadPoint(batch, concurrency) for batch, concurrency in pairs]

    @property
    def client(self) -> ClientUser | None:
        """User of perf_analyzer's process, None for the caller."""
        return None if self.client_user is None else ClientUser.parse(self.client_user)

    @property
    def log_path(self) -> Path:
        """File of the tool's output streams."""
        return self.result_path.with_suffix(".log")
