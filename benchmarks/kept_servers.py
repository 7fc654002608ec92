"""Servers as the kept measurements of ``reports/`` show them at their fastest."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.results import OURS, PACKED
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError
from deployment_toolkit.results.tables import read_csv

REPORTS = ROOT / "reports"
CORES = 2  # of every CPU host that was measured

_PEERS, _PEERS_AVX2 = "cpu_2_cores_peers/peers.csv", "cpu_2_cores_avx2_peers/peers.csv"
_ONLINE, _OFFLINE = "cpu_2_cores/triton_performance_online_summary.csv", "{}/triton_performance_offline_summary.csv"
_PUBLISHED, _A100 = "published_results.csv", "NVIDIA DGX A100 (1x A100 80GB)"
_STARTS, _SERVING = "cpu_2_cores_starts/starts.csv", "cpu_2_cores_stacks_serving/serving.csv"
_GROWTH = "cpu_2_cores_growth/growth.csv"
_TENSORS = {29: OURS, 2: PACKED}
_CONCURRENCY = 64
_RATE, _P99 = "Inferences/Second", "p99 latency"


@dataclass(frozen=True)
class MeasuredServer:
    """A server's fastest kept measurement: host, what is served, rows of a request. ``request_bytes`` is the body of
    a request, None where it was not measured; ``cores`` are None for a GPU; ``source`` is a file in ``reports/``."""

    host: str
    model: str
    rows: int
    rows_per_s: float
    p99_ms: float
    request_bytes: float | None
    cores: int | None
    source: str


def kept_servers(reports: Path = REPORTS) -> list[MeasuredServer]:
    """Servers over HTTP, with medians over the passes. Raises DataError if a file or its measurement is missing."""
    peers = read_csv(reports / _PEERS)
    xeon = [("int8", rows, tensors) for rows in (1, 32, 1024) for tensors in (29, 2)] + [("fp32", 32, 29)]
    servers = []
    for precision, rows, tensors in xeon:
        measured = _peer(peers, precision, rows, tensors)
        model = f"{precision}, {tensors} tensors"
        servers.append(MeasuredServer("Xeon with AMX", model, rows, *measured, CORES, _PEERS))
    size = servers[-1].request_bytes  # of 32 rows in 29 tensors, whatever the host
    for precision in ("int8", "fp32"):
        best = _best(reports / _ONLINE, _RATE, format="openvino", precision=precision)
        measured = (float(best[_RATE]), float(best[_P99]) / 1000, size)
        model = f"{precision}, 29 tensors, perf_analyzer"
        servers.append(MeasuredServer("EPYC with AVX-512", model, int(best["Batch"]), *measured, CORES, _ONLINE))
    rate, p99_ms, _ = _peer(read_csv(reports / _PEERS_AVX2), "fp32", 32, 29)
    servers.append(MeasuredServer("EPYC with AVX2", "fp32, 29 tensors", 32, rate, p99_ms, size, CORES, _PEERS_AVX2))
    best = _best(reports / _PUBLISHED, "inferences_per_second", scenario="online", gpu=_A100, precision="FP16")
    measured = (float(best["inferences_per_second"]), float(best["p99_latency_ms"]), None)
    servers.append(MeasuredServer("A100", "TensorRT fp16", int(best["batch"]), *measured, None, _PUBLISHED))
    return servers


def start_seconds(reports: Path = REPORTS) -> tuple[float, float]:
    """Seconds in which a server starts, and loads the full-size model, on busy cores: medians."""
    lines = read_csv(reports / _SERVING)
    starts = [float(line["value"]) for line in lines if (line["what"], line["side"]) == ("server's start, s", "now")]
    return statistics.median(starts), statistics.median(float(line["load_s"]) for line in read_csv(reports / _STARTS))


def offline_rates(reports: Path = REPORTS) -> dict[str, float]:
    """Rows per second of one machine that prepares or scores a data set, by what it does."""
    growth = [line for line in read_csv(reports / _GROWTH) if line["subject"] == "preprocessing"]
    largest = max(growth, key=lambda line: int(line["size"]))
    rates = {"preprocessing, EPYC": float(largest["rows_per_s"])}
    for host, folder in (("EPYC", "cpu_2_cores"), ("Xeon", "cpu_2_cores_xeon")):
        for precision in ("int8", "fp32"):
            best = _best(reports / _OFFLINE.format(folder), _RATE, format="openvino", precision=precision)
            rates[f"scoring {precision}, {host}"] = float(best[_RATE])
    return rates


def _peer(
    lines: Iterable[Mapping[str, str]], precision: str, rows: int, tensors: int
) -> tuple[float, float, float | None]:
    """Rows per second, p99 in ms and bytes of a request with 64 requests in flight: medians over the passes."""
    wanted = (_TENSORS[tensors], str(rows), str(_CONCURRENCY))
    found = [
        line
        for line in lines
        if (line["system"], line["rows"], line["concurrency"]) == wanted and line["model"].endswith(f":{precision}")
    ]
    if not found:
        raise DataError(
            f"{_PEERS} has no {precision} in requests of {rows} rows and {tensors} tensors: keep its report"
        )
    sizes = [float(line["request_bytes"]) for line in found if "request_bytes" in line]
    rates, p99s = ([float(line[name]) for line in found] for name in ("rows_per_s", "p99_ms"))
    return statistics.median(rates), statistics.median(p99s), statistics.median(sizes) if sizes else None


def _best(path: Path, rate: str, **where: str) -> dict[str, str]:
    """Line with the highest rate among those with these values."""
    found = [line for line in read_csv(path) if all(line[name] == value for name, value in where.items())]
    if not found:
        raise DataError(f"{path} has no line with {', '.join(where.values())}: keep its report")
    return max(found, key=lambda line: float(line[rate]))
