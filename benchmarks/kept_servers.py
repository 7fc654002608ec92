"""Servers as the kept measurements of ``reports/`` show them at their fastest."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.results import OURS, PACKED
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError
from deployment_toolkit.results.performance import DISTURBED
from deployment_toolkit.results.tables import read_csv

REPORTS = ROOT / "reports"
CORES = 2  # of every CPU host that was measured

_PEERS, _PEERS_AVX2 = "cpu_2_cores_peers/peers.csv", "cpu_2_cores_avx2_peers/peers.csv"
_XEON, _AVX2 = "Xeon with AMX", "EPYC with AVX2"
# Virtual machines whose CPU has the same name; the second one was twice as fast.
_EPYCS = {"EPYC with AVX-512": "cpu_2_cores_epyc", "another EPYC with AVX-512": "cpu_2_cores"}
_SUMMARY = "triton_performance_{}_summary.csv"
_CAPACITY_HOST = "EPYC with AVX-512"
_PUBLISHED, _A100 = "published_results.csv", "NVIDIA DGX A100 (1x A100 80GB)"
_STARTS, _SERVING = "cpu_2_cores_starts/starts.csv", "cpu_2_cores_stacks_serving/serving.csv"
_BULK, _BULK_HOST = "cpu_2_cores_bulk/scoring.csv", "EPYC with AVX-512"
_GROWTH, _GROWTH_HOST = "cpu_2_cores_growth/growth.csv", "another EPYC with AVX-512"
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


@dataclass(frozen=True)
class OfflineRate:
    """Rows per second at which a host of two cores works through a data set; ``source`` is a file in ``reports/``."""

    what: str
    host: str
    rows_per_s: float
    source: str


def kept_servers(reports: Path = REPORTS) -> list[MeasuredServer]:
    """Servers over HTTP, with medians over the passes. Raises DataError if a file or its measurement is missing."""
    xeon = _peer_servers(reports)
    # Of a request by its rows, whatever the host.
    sizes = {server.rows: server.request_bytes for server in xeon if server.model.endswith("29 tensors")}
    servers = [*xeon, *_capacity_servers(reports, sizes)]
    for host, precision in itertools.product(_EPYCS, ("int8", "fp32")):
        online = f"{_EPYCS[host]}/{_SUMMARY.format('online')}"
        best = _best(reports / online, _RATE, format="openvino", precision=precision)
        rows = int(best["Batch"])
        measured = (float(best[_RATE]), float(best[_P99]) / 1000, sizes.get(rows))
        servers.append(MeasuredServer(host, f"{precision}, 29 tensors, perf_analyzer", rows, *measured, CORES, online))
    rate, p99_ms, _ = _peer(read_csv(reports / _PEERS_AVX2), "fp32", 32, 29)
    servers.append(MeasuredServer(_AVX2, "fp32, 29 tensors", 32, rate, p99_ms, sizes[32], CORES, _PEERS_AVX2))
    best = _best(reports / _PUBLISHED, "inferences_per_second", scenario="online", gpu=_A100, precision="FP16")
    measured = (float(best["inferences_per_second"]), float(best["p99_latency_ms"]), None)
    servers.append(MeasuredServer("A100", "TensorRT fp16", int(best["batch"]), *measured, None, _PUBLISHED))
    return servers


def start_seconds(reports: Path = REPORTS) -> tuple[float, float]:
    """Seconds in which a server starts, and loads the full-size model, on busy cores: medians."""
    lines = read_csv(reports / _SERVING)
    starts = [float(line["value"]) for line in lines if (line["what"], line["side"]) == ("server's start, s", "now")]
    return statistics.median(starts), statistics.median(float(line["load_s"]) for line in read_csv(reports / _STARTS))


def offline_rates(reports: Path = REPORTS) -> list[OfflineRate]:
    """What one machine prepares and scores of a data set: by the commands, then at most by a server, offline."""
    growth = [line for line in read_csv(reports / _GROWTH) if line["subject"] == "preprocessing"]
    largest = max(growth, key=lambda line: int(line["size"]))
    bulk = _best(reports / _BULK, "rows_per_s")
    rates = [
        OfflineRate("preprocessing, one process", _GROWTH_HOST, float(largest["rows_per_s"]), _GROWTH),
        OfflineRate("bulk scoring, int8", _BULK_HOST, float(bulk["rows_per_s"]), _BULK),
    ]
    for host, precision in itertools.product(_EPYCS, ("int8", "fp32")):
        source = f"{_EPYCS[host]}/{_SUMMARY.format('offline')}"
        best = _best(reports / source, _RATE, format="openvino", precision=precision)
        rates.append(OfflineRate(f"a server at most, {precision}", host, float(best[_RATE]), source))
    return rates


def _peer_servers(reports: Path) -> list[MeasuredServer]:
    peers = read_csv(reports / _PEERS)
    cells = [("int8", rows, tensors) for rows in (1, 32, 1024) for tensors in (29, 2)] + [("fp32", 32, 29)]
    return [
        MeasuredServer(
            _XEON, f"{precision}, {tensors} tensors", rows, *_peer(peers, precision, rows, tensors), CORES, _PEERS
        )
        for precision, rows, tensors in cells
    ]


def _capacity_servers(reports: Path, sizes: Mapping[int, float | None]) -> list[MeasuredServer]:
    """The highest capacity in OpenVINO int8 for each number of rows; ``sizes`` are bytes of a request, by its rows."""
    source = f"{_EPYCS[_CAPACITY_HOST]}/{_SUMMARY.format('capacity')}"
    held = {"precision": "int8", "Capacity": "yes"}
    rows = {int(line["Rows"]) for line in _lines(reports / source, held)}
    servers = []
    for number in sorted(rows):
        best = _best(reports / source, _RATE, **held, Rows=str(number))
        measured = (float(best[_RATE]), float(best[_P99]) / 1000, sizes[number])
        model = f"int8, 29 tensors, p99 within {float(best['Latency Budget']) / 1000:g} ms"
        servers.append(MeasuredServer(_CAPACITY_HOST, model, number, *measured, CORES, source))
    return servers


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
    """Line with the highest rate among those of these values."""
    return max(_lines(path, where), key=lambda line: float(line[rate]))


def _lines(path: Path, where: Mapping[str, str]) -> list[dict[str, str]]:
    """Lines with these values that were not disturbed."""
    found = [line for line in read_csv(path) if all(line[name] == value for name, value in where.items())]
    found = [line for line in found if line.get(DISTURBED) != "yes"]
    if not found:
        which = f" with {', '.join(where.values())}" if where else ""
        raise DataError(f"{path} has no undisturbed line{which}: keep its report")
    return found
