from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.results.capacity import (
    CapacityRow,
    capacities,
    capacity_markdown,
    marked,
    read_capacity,
    read_capacity_summary,
    sizing,
    write_capacity,
)


def row(rows: int, budget_ms: float, offered: float, **changes: Any) -> CapacityRow:
    return {
        "Rows": rows,
        "Latency Budget": budget_ms * 1000,
        "Offered Requests/Second": offered,
        "Requests/Second": offered,
        "Inferences/Second": offered * rows,
        "p50 latency": 1000.0,
        "p90 latency": 2000.0,
        "p95 latency": 3000.0,
        "p99 latency": 4000.0,
        "avg latency": 1500.0,
        "Requests": 1000,
        "Late Sends": 0.0,
        "Refused": 0.0,
        "Client Cores": 0.25,
        "Server Cores": 1.5,
        "Valid": True,
        "Capacity": False,
        "Other Cores": 0.02,
        "Steal Cores": 0.0,
        "CPU Speed Before": 10.0,
        "CPU Speed After": 10.5,
        "Disturbed": False,
        **changes,
    }


RUNS = [
    row(32, 20, 300.0, Valid=False, **{"Late Sends": 0.0213}),
    row(32, 20, 100.0),
    row(32, 20, 200.0),
    row(32, 10, 100.0, Valid=False, **{"Other Cores": 0.7, "Disturbed": True}),
    row(1, 20, 900.0, **{"Server Cores": None}),
]


def test_capacity_is_the_valid_run_of_the_highest_rate(tmp_path: Path) -> None:
    rows = marked(RUNS)
    write_capacity(tmp_path / "capacity.csv", rows)
    assert read_capacity(tmp_path / "capacity.csv") == rows
    held = capacities(rows)
    assert {key: found["Offered Requests/Second"] for key, found in held.items()} == {
        (1, 20_000.0): 900.0,
        (32, 20_000.0): 200.0,
    }
    assert (tmp_path / "capacity.csv").read_text().splitlines()[:2] == [
        "Rows,Latency Budget,Offered Requests/Second,Requests/Second,Inferences/Second,p50 latency,p90 latency,"
        "p95 latency,p99 latency,avg latency,Requests,Late Sends,Refused,Client Cores,Server Cores,Valid,Capacity,"
        "Other Cores,Steal Cores,CPU Speed Before,CPU Speed After,Disturbed",
        "1,20000,900,900,900,1000,2000,3000,4000,1500,1000,0,0,0.25,,yes,yes,0.02,0,10,10.5,no",
    ]


def test_capacity_of_before_tells_nothing_of_disturbances(tmp_path: Path) -> None:
    path = tmp_path / "capacity.csv"
    write_capacity(path, RUNS[:1])
    path.write_text("\n".join(line.rsplit(",", 5)[0] for line in path.read_text().splitlines()))
    (found,) = read_capacity(path)
    assert found["Disturbed"] is None and found["Other Cores"] is None
    write_capacity(path, [found])
    assert path.read_text().splitlines()[1].endswith(",no,no,,,,,")


def test_capacity_summary_is_grouped_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    write_capacity(path, marked(RUNS))
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([f"experiment,{header}", *(f"{1 + (i > 1)},{line}" for i, line in enumerate(lines))]))
    groups = read_capacity_summary(path, "experiment")
    assert {name: len(rows) for name, rows in groups.items()} == {"1": 2, "2": 3}
    path.write_text(f"{header}\n{lines[0].replace('1,20000', '1,quick', 1)}\n")
    with pytest.raises(DataError, match=r"summary.csv, line 2 is not a capacity result .*quick.*measure again"):
        read_capacity(path)


def test_sizing_rounds_up_and_leaves_room() -> None:
    assert sizing(100_000, row(32, 20, 1000.0)) == 6  # 100,000 / (32,000 * 0.6) = 5.2
    assert sizing(10, row(32, 20, 1000.0)) == 1
    assert sizing(64_000, row(32, 20, 1000.0), load=1.0) == 2
    with pytest.raises(UsageError, match="above 0 and at most 1, not 60"):
        sizing(10, row(32, 20, 1000.0), load=60)


def test_capacity_table_marks_invalid_runs_and_a_late_client() -> None:
    text = capacity_markdown(marked(RUNS))
    summary, runs, notes = text.split("\n\n")
    assert [[cell.strip() for cell in line.split("|")[1:4]] for line in summary.splitlines()[2:]] == [
        ["1", "20", "900"],
        ["32", "10", "none"],
        ["32", "20", "200"],
    ]
    late = [line for line in runs.splitlines() if "§" in line]
    assert len(late) == 1 and "300.00" in late[0] and "no ✗" in late[0]
    assert "the client may have been the limit" in notes and "LoadGen calls this run invalid" in notes
    disturbed = [line for line in runs.splitlines() if "‡" in line]
    assert len(disturbed) == 1 and "100.00 ‡" in disturbed[0] and "others used the cores" in notes
    assert "✗" not in capacity_markdown(marked(RUNS[1:2]))
