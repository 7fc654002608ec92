"""How many servers, cores, network and money a rate of inferences takes, computed from the kept measurements.

Run from the repository's root: ``python -m benchmarks.scaling``. It measures nothing. Every rate is read from a file of
``reports/``, which the table names; every other number is an option: an assumption, to be replaced by yours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kept_servers import CORES, MeasuredServer, kept_servers, offline_rates, start_seconds
from benchmarks.peers.readme import put_between_markers
from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.command_line import read_command_line
from deployment_toolkit.options.params import option, run_entry_point
from deployment_toolkit.results.performance import markdown_table

MARKERS = "scaling"

_LEAST_SERVERS = 2  # one may fail
_RATES = (1e3, 1e4, 1e5, 1e6)
_OUTBRAIN_ROWS = 87_000_000
_DATA_SETS = (10**7, _OUTBRAIN_ROWS, 10**9, 10**10)
_BITS = 8


@dataclass(frozen=True)
class ScalingOptions:
    """Options of this command: the demand, and what is assumed."""

    rows_per_second: float = option("wanted inferences per second", 1_000_000.0)
    load: float = option("share of a server's highest rate that is used, above 0 and up to 1", 0.6)
    core_hour: float = option("price of a core for an hour, in dollars", 0.04)
    gpu_hour: float = option("price of an A100 with its cores for an hour, in dollars", 3.5)
    proxy_cores: float = option("cores of the proxy in a CPU server's pod (proxy.resources.cpu of the chart)", 0.5)
    balancer_ms: float = option("CPU time of a balancer for a request of one row, in ms (docs/server-proxy.md)", 0.12)
    balancer_ms_1024: float = option("the same for a request of 1,024 rows", 0.33)
    scrape_s: float = option("seconds between two looks of Prometheus at a server", 15.0)
    window_s: float = option("seconds of the rates in rules.yaml", 60.0)
    controller_s: float = option("seconds between two looks of the autoscaler", 15.0)
    image_mb: float = option("size of the server's image, unpacked, in MB (docs/serving-image.md)", 400.0)
    model_mb: float = option("size of the model's image, in MB: int8; fp32 has 367", 96.0)
    pull_mb_s: float = option("speed at which a node pulls, unpacks and copies images, in MB per second", 50.0)
    probe_s: float = option("seconds from a ready server to its first request", 5.0)
    update_page: Path | None = option("page to put the tables into, between its markers", None)

    def __post_init__(self) -> None:
        if not 0 < self.load <= 1:
            raise UsageError(f"--load is a share above 0 and up to 1, not {self.load:g}")
        if min(self.rows_per_second, self.pull_mb_s, self.core_hour, self.gpu_hour) <= 0:
            raise UsageError("--rows-per-second, --pull-mb-s, --core-hour and --gpu-hour must be above 0")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not 0 <= value < math.inf:
                raise UsageError(f"--{field.name.replace('_', '-')} is 0 or more, not {value:g}")


def main(argv: list[str]) -> None:
    options = read_command_line(__doc__, argv, [ScalingOptions]).get(ScalingOptions)
    text = tables(options)
    print(text, end="")
    if options.update_page is not None:
        put_between_markers(options.update_page, text, MARKERS)


def tables(options: ScalingOptions) -> str:
    """All tables as markdown."""
    servers = kept_servers()
    load = f"servers loaded to {options.load:.0%}"
    sections = {
        f"{options.rows_per_second:,.0f} inferences a second, {load}": _sizing(servers, options),
        f"Servers at other rates, and what the price of two GPUs buys, {load}": [
            _at_rates(server, options) for server in servers
        ],
        f"How long until another server answers, {load}": _reaction(options),
        f"One machine of {CORES} cores, offline": _offline(),
    }
    return "\n".join(f"**{title}**\n\n{markdown_table(rows)}" for title, rows in sections.items())


def servers_for(rows_per_second: float, server: MeasuredServer, load: float) -> int:
    """Number of servers that answer a rate, each loaded to a share; two at least, as one may fail."""
    return max(_LEAST_SERVERS, math.ceil(rows_per_second / (server.rows_per_s * load)))


def balancer_ms(rows: int, options: ScalingOptions) -> float:
    """CPU time of a balancer for a request, on the line through the two measured sizes."""
    return options.balancer_ms + (options.balancer_ms_1024 - options.balancer_ms) * (rows - 1) / 1023


def _sizing(servers: Sequence[MeasuredServer], options: ScalingOptions) -> list[dict[str, object]]:
    largest = next(server for server in servers if server.rows == 1024)
    row_bytes = (largest.request_bytes or math.nan) / largest.rows  # for requests whose size was not measured
    return [_size(server, row_bytes, options) for server in servers]


def _size(server: MeasuredServer, row_bytes: float, options: ScalingOptions) -> dict[str, object]:
    number = servers_for(options.rows_per_second, server, options.load)
    requests = options.rows_per_second / server.rows
    gigabits = requests * (server.request_bytes or server.rows * row_bytes) * _BITS / 1e9
    balancer = requests * balancer_ms(server.rows, options) / 1000
    return {
        "host": server.host,
        "model": server.model,
        "rows a request": server.rows,
        "rows/s of a server": f"{server.rows_per_s:,.0f}",
        "p99 then, ms": f"{server.p99_ms:.3g}",
        "servers": number,
        "cores": f"{number} GPUs" if server.cores is None else f"{number * _pod_cores(server, options):,g}",
        "requests/s": f"{requests:,.0f}",
        "Gbit/s in": f"{gigabits:.1f}",
        "Mbit/s a server": f"{1000 * gigabits / number:.0f}",
        "balancer's cores": f"{balancer:.3g}",
        "$ an hour": f"{number * _pod_hour(server, options) + balancer * options.core_hour:.2f}",
        "from reports/": server.source,
    }


def _pod_cores(server: MeasuredServer, options: ScalingOptions) -> float:
    """Cores of a server and the proxy in its pod; a GPU's come with it."""
    return 0.0 if server.cores is None else server.cores + options.proxy_cores


def _pod_hour(server: MeasuredServer, options: ScalingOptions) -> float:
    """Dollars that a server costs an hour."""
    return options.gpu_hour if server.cores is None else _pod_cores(server, options) * options.core_hour


def _at_rates(server: MeasuredServer, options: ScalingOptions) -> dict[str, object]:
    numbers = {f"{rate:,.0f}/s": servers_for(rate, server, options.load) for rate in _RATES}
    loaded = server.rows_per_s * options.load
    price = 2 * options.gpu_hour
    affordable = math.floor(price / _pod_hour(server, options))
    return {
        "host": server.host,
        "model": server.model,
        "rows a request": server.rows,
        "one server is enough up to": f"{loaded:,.0f}",
        **numbers,
        f"for ${price:.2f} an hour, without a balancer": f"{loaded * affordable:,.0f}",
    }


def _reaction(options: ScalingOptions) -> list[dict[str, object]]:
    start_s, load_s = start_seconds()
    parts = (
        ("the load is in the metrics", options.scrape_s, "assumed: scrape interval"),
        ("it fills the window of the rates", options.window_s, "rules.yaml"),
        ("the autoscaler looks", options.controller_s, "assumed: Kubernetes' default"),
        ("a node pulls the server's image", options.image_mb / options.pull_mb_s, "assumed; 0 where it is there"),
        ("a node pulls the model's image, and copies it", options.model_mb / options.pull_mb_s, "assumed"),
        ("the server starts", start_s, "cpu_2_cores_stacks_serving/serving.csv, busy cores"),
        ("the model is loaded", load_s, "cpu_2_cores_starts/starts.csv, busy cores"),
        ("its readiness probe is asked, and the balancer told", options.probe_s, "assumed"),
    )
    rows: list[dict[str, object]] = [
        {"what": what, "seconds": f"{seconds:.0f}", "from": source} for what, seconds, source in parts
    ]
    rows.append({"what": "**together**", "seconds": f"{sum(seconds for _, seconds, _ in parts):.0f}", "from": ""})
    return rows


def _offline() -> list[dict[str, object]]:
    return [
        {
            "what": rate.what,
            "host": rate.host,
            "rows/s": f"{rate.rows_per_s:,.0f}",
            **{f"{rows:,} rows": _duration(rows / rate.rows_per_s) for rows in _DATA_SETS},
            "from reports/": rate.source,
        }
        for rate in offline_rates()
    ]


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 100 else f"{minutes / 60:,.1f} h"


if __name__ == "__main__":
    run_entry_point(main)
