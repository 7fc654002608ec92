"""Measures how slow the first requests of a model are, with and without the warm-up at its load.

Run from the repository's root: ``python -m benchmarks.first_requests --models fp32=PATH``, with models of any format
that this project's hosts run. Each load is of a new server; hosts and kinds take turns. It answers ``--requests``
requests of each size, one at a time, and then as many again; the 99th percentiles of both are compared.
"""

from __future__ import annotations

import itertools
import logging
import shlex
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.cpp_models import hosted_format, named_models
from deployment_toolkit.core import Batching, Host, ModelSpec
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.library.registry import read_spec
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.progress import progress_bar
from deployment_toolkit.results.performance import markdown_table
from deployment_toolkit.results.tables import write_csv
from deployment_toolkit.rows.sample import random_rows
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.base import open_transport
from deployment_toolkit.triton_server.local import local_server
from runner.serving import read_system_info

logger = logging.getLogger("first_requests")

_TIMEOUT_S = 300.0
_MS_PER_S = 1000


@dataclass(frozen=True)
class FirstOptions:
    """Options of the command."""

    models: list[str] = option("NAME=PATH of each model: a SavedModel, an ONNX file or an OpenVINO folder", nargs="+")
    hosts: list[Host] = option("hosts of the models", [Host.CPP, Host.PYTHON], nargs="+")
    sizes: list[int] = option("rows of the requests", [1, 64, 512], nargs="+")
    requests: int = option("first requests of a size, and later ones", 100)
    loads: int = option("loads of each model on each host with the warm-up, and without; medians count", 3)
    output_dir: Path = option("folder of the results", Path("first_requests"))

    def __post_init__(self) -> None:
        named_models(self.models)
        if min(self.requests, self.loads, *self.sizes) < 1 or Host.NATIVE in self.hosts:
            raise UsageError("--requests, --loads and --sizes need whole numbers from 1 on, --hosts cpp or python")


@dataclass(frozen=True)
class FirstRequests:
    """A size in a load: times of its requests in ms, and seconds of the load."""

    model: str
    host: str
    warm: bool
    rows: int
    load_s: float
    very_first: float
    first_p99: float
    later_p99: float


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, FirstOptions)
    options = from_args(FirstOptions, parser.parse_args(argv))
    models = named_models(options.models)
    cases = list(itertools.product(range(options.loads), models.items(), options.hosts, (False, True)))
    found: list[FirstRequests] = []
    options.output_dir.mkdir(parents=True, exist_ok=True)
    with progress_bar("loads", len(cases), " loads") as bar:
        for _, (name, path), host, warm in cases:
            found += _load(name, path, host, warm, options)
            write_csv(options.output_dir / "first_requests.csv", [asdict(item) for item in found])
            bar.update()
    text = page(found, read_system_info().summary, shlex.join(["python", "-m", "benchmarks.first_requests", *argv]))
    write_text(options.output_dir / "first_requests.md", text)
    print(text)


def page(found: Sequence[FirstRequests], machine: str, command: str) -> str:
    """Table of the medians over the loads."""
    table = []
    for key, group in itertools.groupby(sorted(found, key=_key), _key):
        loads = list(group)
        table.append(
            {
                "model": key[0],
                "host": key[1],
                "rows": key[2],
                "warm-up": "yes" if key[3] else "no",
                "load (s)": f"{statistics.median(item.load_s for item in loads):.1f}",
                "very first (ms)": f"{statistics.median(item.very_first for item in loads):.1f}",
                "first p99 (ms)": f"{statistics.median(item.first_p99 for item in loads):.1f}",
                "later p99 (ms)": f"{statistics.median(item.later_p99 for item in loads):.1f}",
                "first / later": f"{statistics.median(item.first_p99 / item.later_p99 for item in loads):.2f}",
            }
        )
    return f"# First requests\n\n{machine}\n\n`{command}`\n\nMedians of the loads.\n\n{markdown_table(table)}"


def _key(item: FirstRequests) -> tuple[str, str, int, bool]:
    return item.model, item.host, item.rows, item.warm


def _load(name: str, path: Path, host: Host, warm: bool, options: FirstOptions) -> list[FirstRequests]:
    model_format = hosted_format(path)
    spec = read_spec(model_format, path)
    with tempfile.TemporaryDirectory() as folder:
        deployment = Deployment(
            "model",
            spec,
            model_format,
            host=host,
            batching=Batching.DYNAMIC,
            max_batch_size=max(options.sizes),
            warmup_batch_sizes=tuple(options.sizes) if warm else (),
        )
        add_model(Path(folder) / "repository", deployment, path)
        with local_server(Path(folder) / "repository", log_path=Path(folder) / "server.log") as server:
            started = time.perf_counter()
            server.load_model("model", _TIMEOUT_S)
            load_s = time.perf_counter() - started
            url = ServerUrl.parse(server.grpc_url)
            return [
                FirstRequests(name, str(host), warm, rows, load_s, times[0], *_p99s(times))
                for rows in options.sizes
                for times in [_ask(url, spec, rows, 2 * options.requests)]
            ]


def _ask(url: ServerUrl, spec: ModelSpec, rows: int, count: int) -> list[float]:
    """Milliseconds of each request, one at a time, of different rows."""
    requests = [random_rows(spec, rows, seed) for seed in range(count)]
    times = []
    with closing(open_transport(url, "model", "1", 1)) as transport:
        for x in requests:
            started = time.perf_counter()
            transport.send(x).result(_TIMEOUT_S)
            times.append(_MS_PER_S * (time.perf_counter() - started))
    return times


def _p99s(times: Sequence[float]) -> tuple[float, float]:
    """99th percentiles of the first and of the second half."""
    half = len(times) // 2
    first, later = (sorted(part)[(99 * (half - 1)) // 100] for part in (times[:half], times[half:]))
    return first, later


if __name__ == "__main__":
    run_entry_point(main)
