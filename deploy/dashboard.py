"""Writes Grafana's dashboard of Triton servers, deploy/kubernetes/files/dashboard.json.

    python deploy/dashboard.py [FILE]

Its series are those of rules.yaml beside it and of the servers themselves (docs/monitoring.md).
"""

from __future__ import annotations

import string
import sys
from pathlib import Path
from typing import TypeVar

from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

PATH = Path(__file__).parent / "kubernetes" / "files" / "dashboard.json"

_SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
_SERVERS = '{job="$job", namespace=~"$namespace"}'
_MODELS = '{job="$job", namespace=~"$namespace", model=~"$model"}'
_RATE = "$__rate_interval"
_TRACK = "{{model}} {{track}}"
_SERVER = "{{pod}} {{instance}}"

AnyPanel = TypeVar("AnyPanel", Stat, TimeSeries)
Query = tuple[str, str]  # and its legend
# Title, unit, what it shows, queries.
Shown = tuple[str, str, str, list[Query]]

_NUMBERS: list[Shown] = [
    ("Servers that answer Prometheus", "short", "", [(f"sum(up{_SERVERS})", "")]),
    ("Requests a second", "reqps", "", [(f"sum(triton:requests:rate1m{_MODELS})", "")]),
    ("Inferences a second", "short", "Rows.", [(f"sum(triton:rows:rate1m{_MODELS})", "")]),
    (
        "Alerts",
        "short",
        "Alerts that fire.",
        [('count(ALERTS{alertname=~"Triton.+", alertstate="firing", job="$job"}) or vector(0)', "")],
    ),
]
_ANSWERS: list[Shown] = [
    ("Requests a second", "reqps", "Answered requests.", [(f"triton:requests:rate1m{_MODELS}", _TRACK)]),
    ("Inferences a second", "short", "Answered rows.", [(f"triton:rows:rate1m{_MODELS}", _TRACK)]),
    (
        "Requests that failed or were refused",
        "percentunit",
        "Failed requests cost answers; refused ones are those that a full or slow queue turns away.",
        [
            (f"triton:error_ratio:rate1m{_MODELS}", f"failed {_TRACK}"),
            (f"triton:refused_ratio:rate1m{_MODELS}", f"refused {_TRACK}"),
        ],
    ),
    (
        "Time in the server",
        "s",
        "Mean from the request's arrival to its answer, weighted by requests. Triton has no percentiles.",
        [
            (f"triton:request_seconds:mean1m{_MODELS}", _TRACK),
            ('triton:latency_budget:seconds{job="$job"} / 3', "a third of the latency budget"),
        ],
    ),
    (
        "Wait in the queue",
        "s",
        "Mean, weighted by requests: what the autoscaler sees.",
        [
            (f"triton:queue_seconds:mean1m{_MODELS}", _TRACK),
            ('0.25 * triton:latency_budget:seconds{job="$job"}', "a fourth of the latency budget"),
        ],
    ),
    (
        "Where a request's time goes",
        "s",
        "Means over all servers. The parts are in docs/latency.md.",
        [
            (
                f"sum(rate(nv_inference_{part}_duration_us{_MODELS}[{_RATE}])) / 1e6"
                f" / (sum(rate(nv_inference_request_success{_MODELS}[{_RATE}])) > 0)",
                part.replace("_", " "),
            )
            for part in ("queue", "compute_input", "compute_infer", "compute_output")
        ],
    ),
]
_PER_SERVER: list[Shown] = [
    (
        "Requests a second, by server",
        "reqps",
        "Lines that part show a load that is balanced by connection.",
        [(f"sum by (pod, instance) (rate(nv_inference_request_success{_MODELS}[{_RATE}]))", _SERVER)],
    ),
    (
        "Requests that wait, by server",
        "short",
        "A queue that is never empty is a server at its limit.",
        [(f"sum by (pod, instance) (nv_inference_pending_request_count{_MODELS})", _SERVER)],
    ),
    (
        "Rows in a batch, by server",
        "short",
        "Mean of the batches that the model computed.",
        [
            (
                f"sum by (pod, instance) (rate(nv_inference_count{_MODELS}[{_RATE}]))"
                f" / (sum by (pod, instance) (rate(nv_inference_exec_count{_MODELS}[{_RATE}])) > 0)",
                _SERVER,
            )
        ],
    ),
    ("Servers", "short", "1: answers Prometheus; 0: does not.", [(f"up{_SERVERS}", _SERVER)]),
    (
        "Cores of the host in use",
        "percentunit",
        "Of the whole host (in Kubernetes: the node), other programs included.",
        [(f"nv_cpu_utilization{_SERVERS}", _SERVER)],
    ),
    (
        "Memory of the host in use",
        "percentunit",
        "Of the whole host (in Kubernetes: the node), other programs included.",
        [(f"nv_cpu_memory_used_bytes{_SERVERS} / nv_cpu_memory_total_bytes{_SERVERS}", _SERVER)],
    ),
]
_GPUS: list[Shown] = [
    ("GPU in use", "percentunit", "", [(f"nv_gpu_utilization{_SERVERS}", "{{pod}} {{gpu_uuid}}")]),
    (
        "Memory of the GPU in use",
        "percentunit",
        "",
        [(f"nv_gpu_memory_used_bytes{_SERVERS} / nv_gpu_memory_total_bytes{_SERVERS}", "{{pod}} {{gpu_uuid}}")],
    ),
]


def main(argv: list[str]) -> None:
    """Writes the dashboard to the named file, by default to its own."""
    path = Path(argv[0]) if argv else PATH
    path.write_text(JSONEncoder(sort_keys=True, indent=1).encode(_dashboard().build()) + "\n")


def _dashboard() -> Dashboard:
    dashboard = (
        Dashboard("Triton servers")
        .uid("wide-deep-triton")
        .tags(["triton"])
        .readonly()
        .refresh("30s")
        .time("now-1h", "now")
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("job", "Deployment", "label_values(nv_inference_count, job)"))
        .with_variable(
            _variable("namespace", "Namespace", 'label_values(nv_inference_count{job="$job"}, namespace)')
            .include_all(True)
            .all_value(".*")
        )
        .with_variable(
            _variable("model", "Model", 'label_values(nv_inference_count{job="$job"}, model)')
            .include_all(True)
            .all_value(".*")
        )
    )
    for shown in _NUMBERS:
        dashboard.with_panel(_number(shown))
    for title, panels in (("Answers", _ANSWERS), ("Servers", _PER_SERVER), ("GPUs", _GPUS)):
        dashboard.with_row(Row(title))
        for shown in panels:
            dashboard.with_panel(_lines(shown))
    return dashboard


def _variable(name: str, label: str, query: str) -> QueryVariable:
    variable = QueryVariable(name).label(label).query(query).datasource(_SOURCE)
    return variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)  # also when the dashboard is opened


def _number(shown: Shown) -> Stat:
    panel = Stat().height(4).span(6)
    panel.reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    return _filled(panel, shown)


def _lines(shown: Shown) -> TimeSeries:
    panel = TimeSeries().height(8).span(8).min(0).line_width(1).fill_opacity(5)
    panel.legend(VizLegendOptions().show_legend(True))
    return _filled(panel, shown)


def _filled(panel: AnyPanel, shown: Shown) -> AnyPanel:
    title, unit, description, queries = shown
    panel.title(title).description(description).unit(unit).datasource(_SOURCE)
    for letter, (query, legend) in zip(string.ascii_uppercase, queries, strict=False):
        panel.with_target(Dataquery().expr(query).legend_format(legend).ref_id(letter).datasource(_SOURCE))
    return panel


if __name__ == "__main__":
    main(sys.argv[1:])
