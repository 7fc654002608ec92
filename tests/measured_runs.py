"""Small runs as their files tell them, for tests that need figures and no measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from deployment_toolkit.results.capacity import CapacityRow, capacity_cells
from deployment_toolkit.results.performance import (
    LATENCY_PARTS,
    LATENCY_STATISTICS,
    PerformanceRow,
    performance_cells,
)
from deployment_toolkit.results.tables import write_csv

SYSTEM = {"cpu": "a CPU", "cores": 2, "memory_gib": 24.0, "system": "Linux", "packages": {"openvino": "1"}}
PARAMETERS = {"experiment": "1", "model": "m", "format": "onnx", "precision": "fp32", "instances": "1"}


def performance_row(rates: Sequence[float] = (), latencies_us: Sequence[float] = (), **changes: Any) -> dict[str, Any]:
    """A row whose throughput and average latency are the means of its windows."""
    rate, latency_us = (sum(values) / len(values) if values else 1000.0 for values in (rates, latencies_us))
    row = {"Batch": 1, "Concurrency": 1, "Inferences/Second": rate, **dict.fromkeys(LATENCY_PARTS, latency_us / 7)}
    row |= {**dict.fromkeys(LATENCY_STATISTICS, latency_us), "Settled": True, "Refused": 0.0}
    return {**row, "Window Rates": tuple(rates), "Window Latencies": tuple(latencies_us), **changes}


def capacity_row(offered: float, **changes: Any) -> CapacityRow:
    """A valid row of requests of 32 rows within 20 ms."""
    row: dict[str, Any] = {
        "Rows": 32,
        "Latency Budget": 20_000.0,
        "Offered Requests/Second": offered,
        "Requests/Second": offered,
    }
    row |= {
        "Requests/Second": offered,
        "Inferences/Second": 32 * offered,
        **dict.fromkeys(LATENCY_STATISTICS, 1000.0),
        "Requests": 1000,
    }
    row |= {"Late Sends": 0.0, "Refused": 0.0, "Client Cores": None, "Server Cores": None}
    return {**row, "Valid": True, "Capacity": True, **changes}


def write_run(
    folder: Path,
    offline: Sequence[PerformanceRow] = (),
    online: Sequence[PerformanceRow] = (),
    capacity: Sequence[CapacityRow] = (),
    correctness: Sequence[Mapping[str, str]] = (),
    *,
    parameters: Mapping[str, str] = PARAMETERS,
    system: Mapping[str, Any] = SYSTEM,
    state: str = "ok",
) -> Path:
    """Writes the files of a run of one experiment; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    stages = [{"name": "performance offline", "experiment": 1, "state": state, "seconds": 1.0}]
    chosen = {key: parameters[key] for key in ("format", "precision")}
    task = {
        "command": "python -m runner",
        "started": "2026-11-30T01:00:00+00:00",
        "finished": "2026-11-30T01:10:00+00:00",
        "interrupted": False,
        "system": dict(system),
        "stages": stages,
        "config": {"model_name": "m", "configurations": [{"parameters": chosen}]},
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(task))
    tables: dict[str, list[Any]] = {
        "triton_performance_offline": [performance_cells(row) for row in offline],
        "triton_performance_online": [performance_cells(row) for row in online],
        "triton_performance_capacity": [capacity_cells(row) for row in capacity],
        "correctness": list(correctness),
    }
    for name, rows in tables.items():
        if rows:
            write_csv(folder / f"{name}_summary.csv", [{**parameters, **row} for row in rows])
    return folder
