"""What the autoscaler's query says of servers that answer, idle and hang, by promtool."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster_tools import needs_cluster_tools, one, render
from tests.deploy.charts import KEDA
from tests.prometheus import needs_prometheus

pytestmark = [needs_cluster_tools, needs_prometheus]
COUNTERS = ("nv_inference_queue_duration_us", "nv_inference_request_success")


def evaluated(
    folder: Path, pods: dict[str, tuple[int, int, int]], expected: float | None
) -> subprocess.CompletedProcess[str]:
    """promtool's verdict on the value of the query after two minutes. Each pod adds, in each 15 s, so many microseconds
    in the queue and so many requests, and so many wait all the time."""
    query = one(render(*KEDA), "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    series = []
    for pod, (queue_us, requests, pending) in pods.items():
        for track in ("stable", "canary"):  # the canary's are not the stable pods'
            factor = 1 if track == "stable" else 1000
            labels = f'namespace="default",release="wide-deep",track="{track}",model="WidenDeep",pod="{pod}"'
            told = [f"0+{factor * queue_us}x12", f"0+{requests}x12", f"{pending}x12"]
            names = (*COUNTERS, "nv_inference_pending_request_count")
            series += [
                {"series": f"{name}{{{labels}}}", "values": values} for name, values in zip(names, told, strict=True)
            ]
    samples = [] if expected is None else [{"labels": "{}", "value": expected}]
    test = {
        "interval": "15s",
        "input_series": series,
        "promql_expr_test": [{"expr": f"round({query}, 0.001)", "eval_time": "2m", "exp_samples": samples}],
    }
    (folder / "test.yaml").write_text(yaml.safe_dump({"tests": [test]}))
    return subprocess.run(["promtool", "test", "rules", "test.yaml"], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("pods", "milliseconds"),
    [
        # 3000 requests without a wait and 1000 that waited 20 ms each: 5 ms, and not the mean of 0 and 20.
        ({"a": (0, 3000, 0), "b": (20_000_000, 1000, 3)}, 5.0),
        ({"a": (0, 0, 0), "b": (0, 0, 0)}, 0.0),
        ({"a": (0, 0, 9), "b": (0, 0, 0)}, None),
    ],
    ids=["weighted", "idle", "hangs"],
)
def test_query_weighs_by_requests(
    tmp_path: Path, pods: dict[str, tuple[int, int, int]], milliseconds: float | None
) -> None:
    done = evaluated(tmp_path, pods, milliseconds)
    assert done.returncode == 0, done.stdout + done.stderr
    done = evaluated(tmp_path, pods, 7.0)
    assert done.returncode != 0
