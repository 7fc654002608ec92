"""Compares two load generators at the same rates of random arrivals: LoadGen, by which capacity is measured, and
perf_analyzer.

Run from the repository's root: ``python -m benchmarks.arrivals --models fp32=PATH``, with models that the C++ host
runs. Both send the same rows over HTTP to the same server, by turns. They differ in what they call latency: LoadGen
counts from when a request was due, perf_analyzer from when it was sent.
"""

from __future__ import annotations

import itertools
import logging
import shlex
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.cpp_models import add_to_repository, hosted_format, named_models
from deployment_toolkit.capacity.client import open_client
from deployment_toolkit.capacity.loadgen import LEAST_REQUESTS, OfferedLoad, run_load
from deployment_toolkit.capacity.schedule import close_schedule
from deployment_toolkit.core import Arrays, ModelSpec
from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.library.registry import read_spec
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.process import environment, run
from deployment_toolkit.progress import progress_bar
from deployment_toolkit.results.performance import AVERAGE, P99, THROUGHPUT, US_PER_MS, markdown_table
from deployment_toolkit.results.tables import write_csv
from deployment_toolkit.rows.sample import random_rows
from deployment_toolkit.server_access.past_proxies import past_proxies
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_performance_runner.client_access import server_options
from deployment_toolkit.triton_performance_runner.options import LoadPoint
from deployment_toolkit.triton_performance_runner.perf_data import request_steps, write_steps
from deployment_toolkit.triton_performance_runner.perf_report import WINDOWS, Report
from deployment_toolkit.triton_performance_runner.program import find_program, link_libraries
from deployment_toolkit.triton_performance_runner.shared_memory import machine_to_itself
from deployment_toolkit.triton_server.local import local_server
from runner.serving import read_system_info

logger = logging.getLogger("arrivals")

_MODEL = "model"
_P50 = "p50 latency"
_TIMEOUT_S = 300.0
_BUDGET_US = 1e6  # no verdict is wanted
_SEED = 2051
_THREADS = 4
_NOTE = (
    "Medians of the rounds, in ms. LoadGen counts a latency from when the request was due, perf_analyzer from when it "
    "was sent: where a client is late, only LoadGen's latencies grow. *Late* is the share of LoadGen's requests that "
    "were sent more than 1 ms after they were due."
)


@dataclass(frozen=True)
class ArrivalOptions:
    """Options of the command."""

    models: list[str] = option("NAME=PATH of each model: a SavedModel, an ONNX file or an OpenVINO folder", nargs="+")
    rates: list[float] = option("requests per second", [50.0, 100.0, 200.0, 400.0], nargs="+")
    rows: list[int] = option("rows per request", [1, 32], nargs="+")
    seconds: float = option("length of a run of LoadGen, and of the three windows of perf_analyzer", 9.0)
    rounds: int = option("runs of both at each rate; medians count", 3)
    output_dir: Path = option("folder of the results", Path("arrivals"))

    def __post_init__(self) -> None:
        named_models(self.models)
        if min(self.seconds, self.rounds, *self.rates, *self.rows) <= 0:
            raise UsageError("--rates, --rows, --seconds and --rounds need numbers above 0")


@dataclass(frozen=True)
class Arrivals:
    """A run of one load generator: latencies in ms; ``late`` is empty for perf_analyzer, which does not tell."""

    model: str
    rows: int
    rate: float
    tool: str
    answered: float
    p50: float
    p99: float
    average: float
    late: float | None


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, ArrivalOptions)
    options = from_args(ArrivalOptions, parser.parse_args(argv))
    options.output_dir.mkdir(parents=True, exist_ok=True)
    found: list[Arrivals] = []
    models = named_models(options.models)
    points = list(itertools.product(range(options.rounds), options.rows, options.rates))
    with progress_bar("runs", len(models) * len(points), " runs") as bar, machine_to_itself():
        for name, path in models.items():
            spec = read_spec(hosted_format(path), path)
            with tempfile.TemporaryDirectory() as text:
                folder = Path(text)
                add_to_repository(folder / "repository", _MODEL, path, spec, max(options.rows))
                with local_server(folder / "repository", log_path=folder / "server.log") as server:
                    server.load_model(_MODEL, _TIMEOUT_S)
                    tools = _Tools(name, ServerUrl.parse(server.http_url), spec, options.seconds, folder)
                    for number, rows, rate in points:
                        found += tools.measure(rows, rate, _SEED + 1000 * number)
                        write_csv(options.output_dir / "arrivals.csv", [asdict(item) for item in found])
                        bar.update()
    text = page(found, read_system_info().summary, shlex.join(["python", "-m", "benchmarks.arrivals", *argv]))
    write_text(options.output_dir / "arrivals.md", text)
    print(text)


def page(found: Sequence[Arrivals], machine: str, command: str) -> str:
    """Table of the medians over the rounds, both tools side by side."""
    table = []
    for key, group in itertools.groupby(sorted(found, key=_key), _key):
        runs = list(group)
        line: dict[str, object] = {"model": key[0], "rows": key[1], "requests/s": f"{key[2]:g}"}
        for name in ("p50", "p99"):
            due, sent = (_median(runs, tool, name) for tool in ("LoadGen", "perf_analyzer"))
            line |= {f"{name} LoadGen": f"{due:.2f}", f"{name} perf_analyzer": f"{sent:.2f}"}
            line[f"{name} difference"] = f"{due - sent:+.2f}"
        late = statistics.median(run.late for run in runs if run.late is not None)
        table.append({**line, "late": f"{late:.1%}"})
    return f"# Random arrivals\n\n{machine}\n\n`{command}`\n\n{markdown_table(table)}\n{_NOTE}\n"


def _median(runs: Sequence[Arrivals], tool: str, name: str) -> float:
    return float(statistics.median(getattr(run, name) for run in runs if run.tool == tool))


def _key(item: Arrivals) -> tuple[str, int, float]:
    return item.model, item.rows, item.rate


class _Tools:
    """Both load generators against one model."""

    def __init__(self, name: str, url: ServerUrl, spec: ModelSpec, seconds: float, folder: Path) -> None:
        self._name, self._url, self._spec, self._seconds, self._folder = name, url, spec, seconds, folder
        self._env = past_proxies(environment(prepend={"LD_LIBRARY_PATH": [link_libraries(folder)]}), url.host)

    def measure(self, rows: int, rate: float, seed: int) -> list[Arrivals]:
        """A run of each at this rate, with the same rows."""
        steps = request_steps(rows, _THREADS)
        data = random_rows(self._spec, max(rows, steps), _SEED)
        return [self._loadgen(data, rows, rate, seed), self._perf_analyzer(data, rows, rate, steps)]

    def _loadgen(self, data: Arrays, rows: int, rate: float, seed: int) -> Arrivals:
        count = max(1, len(next(iter(data.values()))) // rows)
        requests = [{name: array[i * rows : (i + 1) * rows] for name, array in data.items()} for i in range(count)]
        arrivals = close_schedule(rate, self._seconds, LEAST_REQUESTS, seed)
        load = OfferedLoad(rate, arrivals, self._seconds, LEAST_REQUESTS, _BUDGET_US, count)
        with closing(open_client(self._url, _MODEL, "1")) as client:
            client.prepare(requests)
            client.connect(_THREADS)
            result = run_load(client, load, self._folder / "loadgen_")
        p50, p99, average = (result.latencies_us[name] / US_PER_MS for name in (_P50, P99, AVERAGE))
        return Arrivals(self._name, rows, rate, "LoadGen", result.completed, p50, p99, average, result.late)

    def _perf_analyzer(self, data: Arrays, rows: int, rate: float, steps: int) -> Arrivals:
        path, report = self._folder / "data.json", self._folder / "report.csv"
        write_steps(path, data, steps)
        report.unlink(missing_ok=True)
        window_ms = round(1000 * self._seconds / WINDOWS)
        argv = [
            *(find_program(), "-m", _MODEL, *server_options(self._url), "-b", rows, "--input-data", path),
            *("--request-rate-range", rate, "--request-distribution", "poisson", "--async"),
            *("--max-threads", _THREADS, "--measurement-mode", "time_windows", "--measurement-interval", window_ms),
            *("--stability-percentage", 1_000_000, "--max-trials", WINDOWS, "-v", "--verbose-csv", "-f", report),
        ]
        log_path = self._folder / "perf_analyzer.txt"
        said = run([str(part) for part in argv], env=self._env, timeout_s=_TIMEOUT_S, log_path=log_path)
        row = Report.read(report, said.stdout, LoadPoint(rows, 1)).row
        p50, p99, average = (row[name] / US_PER_MS for name in (_P50, P99, AVERAGE))
        return Arrivals(self._name, rows, rate, "perf_analyzer", row[THROUGHPUT] / rows, p50, p99, average, None)


if __name__ == "__main__":
    run_entry_point(main)
