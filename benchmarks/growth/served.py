"""Axes of a served model: instances, rows in flight, and the size of its embedding tables."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.growth.point import Axis, GrowthJob, GrowthMeasurement
from benchmarks.growth.rows import do_work
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import EvaluationMode, Format, Host
from deployment_toolkit.files.atomic import replace_when_complete
from deployment_toolkit.machine import usable_cores
from deployment_toolkit.process import environment, run
from deployment_toolkit.process_memory import tree_memory
from deployment_toolkit.results.performance import P99, THROUGHPUT, US_PER_MS, read_performance
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from widedeep.features.spec import Feature, FeatureSpec

_NAME = "growing"
_LOAD_TIMEOUT_S = 300.0
_MIB = 2**20


@dataclass(frozen=True)
class GrowthServed:
    """A model with its settings of serving and requests. ``path`` is an OpenVINO model; without it an untrained network
    with ``hidden_units`` is made in ``workspace``. Throughput and p99 are medians of ``repeats`` measurements."""

    path: Path | None
    workspace: Path
    hidden_units: tuple[int, ...]
    spec: FeatureSpec
    max_batch_size: int = 4096
    measurement_requests: int = 17
    repeats: int = 3

    @property
    def name(self) -> str:
        """Name in the settings of a point."""
        untrained = f"untrained, {len(self.hidden_units)} × {self.hidden_units[0]}"
        return f"{untrained if self.path is None else self.path}, median of {self.repeats}"

    def model(self, factor: int = 1) -> Path:
        """Path of the OpenVINO model, with ``factor`` times as many rows in each embedding table if it is made here."""
        if self.path is not None:
            return self.path
        spec = scaled(self.spec, factor)
        widths = "_".join(map(str, self.hidden_units))
        folder = self.workspace / f"network_{widths}_{_cardinality(spec)}"
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with replace_when_complete(folder) as beside:
                beside.mkdir()
                self._make(beside, spec)
        return folder / "model.openvino"

    def _make(self, folder: Path, spec: FeatureSpec) -> None:
        (folder / "spec.yaml").write_text(spec.to_yaml())
        argv: list[str | Path] = [sys.executable, ROOT / "export_model.py", "--input-path", ROOT / "model.py"]
        argv += ["--input-type", Format.TF_KERAS, "--output-type", Format.ONNX, "--output-path", folder / "model.onnx"]
        argv += ["--precision", "fp32", "--feature-spec", folder / "spec.yaml", "--deep-hidden-units"]
        run([*argv, *map(str, self.hidden_units)], log_path=folder / "export.log")
        do_work("openvino", folder)
        (folder / "model.onnx").unlink()


def instances_jobs(served: GrowthServed, counts: Sequence[int], batch: int) -> list[GrowthJob]:
    """Jobs with as many concurrent requests of ``batch`` rows as instances, through shared memory, in both hosts."""
    settings = f"{served.name}, batch {batch}, offline, as many requests at a time"
    return [
        GrowthJob(
            Axis.INSTANCES, f"{host} host", count, settings, functools.partial(_instances, served, host, count, batch)
        )
        for count in sorted(counts)
        for host in (Host.CPP, Host.PYTHON)
    ]


def in_flight_jobs(
    served: GrowthServed, host: Host, rows: Sequence[int], concurrency: Sequence[int]
) -> list[GrowthJob]:
    """Jobs over HTTP with dynamic batching, two instances."""
    settings = f"{served.name}, {host} host, HTTP, dynamic batching"
    return [
        GrowthJob(
            Axis.IN_FLIGHT,
            f"{batch} rows a request",
            batch * requests,
            settings,
            functools.partial(_in_flight, served, host, batch, requests),
        )
        for requests in sorted(concurrency)
        for batch in sorted(rows)
    ]


def tables_jobs(served: GrowthServed, host: Host, factors: Sequence[int], batch: int) -> list[GrowthJob]:
    """Jobs of the network with its cardinalities times each factor; the size is the number of ids in all tables."""
    settings = f"{dataclasses.replace(served, path=None).name}, {host} host, batch {batch}, offline"
    untrained = dataclasses.replace(served, path=None)
    return [
        GrowthJob(
            Axis.TABLES,
            f"{host} host",
            _cardinality(scaled(served.spec, factor)),
            settings,
            functools.partial(_tables, untrained, host, factor, batch),
        )
        for factor in sorted(factors)
    ]


def scaled(spec: FeatureSpec, factor: int) -> FeatureSpec:
    """Feature specification with ``factor`` times as many ids."""

    def more(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        return tuple(dataclasses.replace(item, cardinality=(item.cardinality or 0) * factor) for item in features)

    return dataclasses.replace(spec, onehot=more(spec.onehot), multihot=more(spec.multihot))


def _instances(served: GrowthServed, host: Host, count: int, batch: int) -> GrowthMeasurement:
    threads = usable_cores()
    if host is Host.PYTHON:  # each instance has its own threads
        threads = max(1, threads // count)
    with _server() as server:
        options = ["--engine-count-per-device", f"cpu={count}", "--triton-backend-parameters", f"threads={threads}"]
        seconds = _deploy(server, served.model(), host, batch, options)
        return _ask(server, served, seconds, EvaluationMode.OFFLINE, batch, count)


def _in_flight(served: GrowthServed, host: Host, batch: int, requests: int) -> GrowthMeasurement:
    with _server() as server:
        options = ["--engine-count-per-device", "cpu=2", "--batching", "dynamic"]
        seconds = _deploy(server, served.model(), host, max(served.max_batch_size, batch), options)
        return _ask(server, served, seconds, EvaluationMode.ONLINE, batch, requests)


def _tables(served: GrowthServed, host: Host, factor: int, batch: int) -> GrowthMeasurement:
    model = served.model(factor)
    with _server() as server:
        seconds = _deploy(server, model, host, batch, [])
        return _ask(server, served, seconds, EvaluationMode.OFFLINE, batch, 1)


@contextlib.contextmanager
def _server() -> Iterator[tuple[TritonServer, Path]]:
    with tempfile.TemporaryDirectory(prefix="growth_") as name:
        folder = Path(name)
        (folder / "models").mkdir()
        with local_server(folder / "models", log_path=folder / "tritonserver.log") as server:
            yield server, folder


def _deploy(place: tuple[TritonServer, Path], model: Path, host: Host, batch: int, options: Sequence[str]) -> float:
    """Deploys the model; returns the seconds that the server took to load it."""
    server, folder = place
    argv: list[str | Path] = [sys.executable, "-m", "navigator", "triton-config-model", "--model-name", _NAME]
    argv += ["--model-path", model, "--model-format", Format.OPENVINO, "--model-repository", folder / "models"]
    argv += ["--server-url", server.grpc_url, "--workspace-path", folder / "navigator", "--host", host]
    argv += ["--max-batch-size", str(batch), *options]
    run(argv, env=environment(prepend={"PYTHONPATH": [ROOT]}), log_path=folder / "deploy.log")
    started = time.perf_counter()
    server.load_model(_NAME, _LOAD_TIMEOUT_S)
    return time.perf_counter() - started


def _ask(
    place: tuple[TritonServer, Path],
    served: GrowthServed,
    seconds: float,
    mode: EvaluationMode,
    batch: int,
    requests: int,
) -> GrowthMeasurement:
    server, folder = place
    url = server.grpc_url if mode is EvaluationMode.OFFLINE else server.http_url
    csv = folder / "performance.csv"
    argv: list[str | Path] = [sys.executable, ROOT / "run_performance_on_triton.py", "--model-name", _NAME]
    argv += ["--server-url", url, "--result-path", csv, "--evaluation-mode", mode, "--batch-sizes", str(batch)]
    argv += ["--concurrency", str(requests), "--measurement-request-count", str(served.measurement_requests)]
    rates, p99s_ms = [], []
    for _ in range(served.repeats):
        run([*argv, "--retries", "0"], log_path=folder / "performance.log")
        (row,) = read_performance(csv)
        rates.append(float(row[THROUGHPUT]))
        p99s_ms.append(float(row[P99]) / US_PER_MS)
    assert server.pid is not None, "the server was started here"
    memory_mib = tree_memory(server.pid).pss_bytes / _MIB
    p99_ms = statistics.median(p99s_ms)
    return GrowthMeasurement(seconds, memory_mib, statistics.median(rates), math.nan if p99_ms <= 0 else p99_ms)


def _cardinality(spec: FeatureSpec) -> int:
    return sum(item.cardinality or 0 for item in (*spec.onehot, *spec.multihot))
