"""A complete run with small tables, on a real tritonserver and a real perf_analyzer."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from deployment_toolkit.results.capacity import read_capacity, read_capacity_summary
from deployment_toolkit.results.performance import PERFORMANCE_COLUMNS
from tests.browser import needs_browser, open_browser
from tests.runner.conftest import DEADLINE_S, ENSEMBLE, STAGES, rows, states, task

PNG = b"\x89PNG"


def test_parallel_runs_share_only_the_preparation(finished_runs: list[tuple[Path, str]]) -> None:
    (two, _), (one, _) = finished_runs
    prepared = [states(run, None)["training"] for run in (two, one)]
    assert sorted(prepared) == ["ok", "reused"]
    assert {state for run in (two, one) for state in states(run, 1).values()} == {"ok"}
    urls = [
        (run / "experiment_1" / "replay.sh").read_text().partition("--http-port ")[2].split()[0] for run in (two, one)
    ]
    assert urls[0] != urls[1]
    assert all("--metrics-port " in (run / "experiment_1" / "replay.sh").read_text() for run in (two, one))
    metrics = [rows(run / "experiment_1" / "correctness.csv")[0]["map12"] for run in (two, one)]
    assert metrics[0] == metrics[1]


def test_stages_all_pass_and_are_recorded(finished_run: tuple[Path, str], nothing_left: None) -> None:
    run, printed = finished_run
    record = task(run)
    assert [stage["name"] for stage in record["stages"]] == ["demo data", "preprocessing", "training", *STAGES, *STAGES]
    assert {stage["state"] for stage in record["stages"]} <= {"ok", "reused"}
    assert {stage["state"] for stage in record["stages"] if stage["experiment"]} == {"ok"}
    shared = [stage["message"] == "as experiment 1 made it" for stage in record["stages"]]
    assert sum(shared) == 1
    assert all(
        stage["seconds"] > 0 or is_shared
        for stage, is_shared in zip(record["stages"], shared, strict=True)
        if stage["state"] == "ok"
    )
    assert all(stage["peak_memory_bytes"] > 2**20 for stage in record["stages"] if stage["seconds"] > 2)
    assert {"tensorflow-cpu", "perf_analyzer"} <= record["system"]["packages"].keys()
    assert record["finished"] > record["started"]
    assert record["config"]["model_name"] == "WidenDeep"
    for name in STAGES:
        assert f"experiment 2 · {name}" in printed
    assert str(run / "report.md") in printed


@pytest.mark.parametrize("number", [1, 2])
def test_experiment_writes_its_results(finished_run: tuple[Path, str], number: int) -> None:
    folder = finished_run[0] / f"experiment_{number}"
    correctness = rows(folder / "correctness.csv")
    assert [row["name"] for row in correctness] == ["framework", "grpc_async", "grpc_sync", "http_async", "http_sync"]
    assert all(row["passed"] == "True" and float(row["max_abs_diff"]) < 1e-5 for row in correctness)
    assert len({row["rows"] for row in correctness}) == 1
    offline = rows(folder / "triton_performance_offline.csv")
    assert list(offline[0]) == [column.name for column in PERFORMANCE_COLUMNS]
    assert [(row["Batch"], row["Concurrency"]) for row in offline] == [("1", "1"), ("64", "1")]
    online = rows(folder / "triton_performance_online.csv")
    assert [(row["Batch"], row["Concurrency"]) for row in online] == [("1", "64"), ("1", "128")]
    assert all(float(row["Inferences/Second"]) > 0 for row in offline + online)
    config = (folder / "config.pbtxt").read_text()
    assert "max_batch_size: 64" in config
    assert "dynamic_batching" in config


def test_run_has_summaries_plots_and_a_report(finished_run: tuple[Path, str], workspace_root: Path) -> None:
    run, printed = finished_run
    for name in ("correctness", "triton_performance_offline", "triton_performance_online"):
        lines = rows(run / f"{name}_summary.csv")
        assert [row["preferred_batch_sizes"] for row in lines[:: len(lines) // 2]] == ["32", "64"]
    for name in ("throughput_vs_batch", "latency_vs_batch", "latency_vs_concurrency"):
        assert (run / "plots" / f"{name}.png").read_bytes().startswith(PNG)
    report = (run / "report.md").read_text()
    assert "Every stage of every experiment passed." in report
    assert report.count("### Offline") == report.count("### Online") == report.count("### Correctness") == 2
    assert "p99 latency (ms)" in report
    measured = [row for mode in ("offline", "online") for row in rows(run / f"triton_performance_{mode}_summary.csv")]
    assert all(row["Other Cores"] and row["Steal Cores"] and float(row["CPU Speed After"]) > 0 for row in measured)
    disturbed = [row for row in measured if row["Disturbed"] == "yes"]
    sentence = f"{len(disturbed)} of {len(measured)} measurements w" if disturbed else "No measurement was disturbed"
    assert sentence in report.partition("## Summary")[0] and sentence in printed
    assert not (workspace_root / "model_store" / run.name).exists(), "models of a run that passed are not kept"


@needs_browser
def test_page_of_a_run_shows_what_it_measured(finished_runs: list[tuple[Path, str]], tmp_path: Path) -> None:
    with open_browser(tmp_path) as browser:
        for run, printed in finished_runs:
            assert f"to look at in a browser: {run / 'report.html'}" in printed
            browser.open(run / "report.html")
            assert browser.complaints == []
            data = browser.evaluate("JSON.parse(document.getElementById('page-data').textContent)")
            offline = [row for item in data["experiments"] for row in item["offline"]]
            wanted = rows(run / "triton_performance_offline_summary.csv")
            assert [row["Inferences/Second"] for row in offline] == [float(row["Inferences/Second"]) for row in wanted]
            worst = [row for item in data["experiments"] for row in item["worst_rows"]]
            assert worst == [
                {name: text for name, text in row.items() if name in worst[0]}
                for row in rows(run / "worst_rows_summary.csv")
            ]
            assert "Every stage passed" in browser.evaluate("document.querySelector('.verdict').textContent")


def test_ensemble_is_deployed_compared_and_measured(finished_runs: list[tuple[Path, str]]) -> None:
    (without, _), (run, printed) = finished_runs
    assert states(run, None)["raw rows"] == "ok"
    names = ["deploy", "correctness", "performance offline", "performance online", "performance capacity"]
    own = [*STAGES[:2], "search", *STAGES[2:], names[-1]]
    assert list(states(run, 1)) == [*own, *(f"ensemble {name}" for name in names)]
    folder = run / "experiment_1"
    correctness = rows(folder / "ensemble" / "correctness.csv")
    assert [row["name"] for row in correctness] == ["framework", "grpc_async", "http_async"]
    network = rows(folder / "correctness.csv")[0]
    assert {row["rows"] for row in correctness} == {network["rows"]}
    assert all(row["passed"] == "True" and float(row["max_abs_diff"]) < 1e-6 for row in correctness)
    for mode, points in (("offline", [("1", "1")]), ("online", [("1", "128")])):
        measured = rows(folder / "ensemble" / f"triton_performance_{mode}.csv")
        assert [(row["Batch"], row["Concurrency"]) for row in measured] == points
        summary = rows(run / f"triton_performance_{mode}_summary.csv")
        assert {row["model"] for row in summary} == {"WidenDeep", ENSEMBLE}
    assert 'platform: "ensemble"' in (folder / "ensemble" / "config.pbtxt").read_text()
    report = (run / "report.md").read_text()
    assert f"## Experiment 1: onnx fp32, {ENSEMBLE}" in report
    assert report.count("### Correctness") == report.count("### Online") == 2
    assert f"1: onnx fp32, {ENSEMBLE}" in printed
    assert not (without / "experiment_1" / "ensemble").exists()


def test_time_budget_leaves_out_what_the_report_tells(finished_runs: list[tuple[Path, str]]) -> None:
    (enough, _), (run, printed) = finished_runs
    assert "The time budget of 60 minutes left nothing out.\n" in (enough / "report.md").read_text()
    assert [(row["Batch"]) for row in rows(run / "experiment_1" / "triton_performance_offline.csv")] == ["1"]
    report = (run / "report.md").read_text()
    head, _, body = report.partition("## Summary")
    told = "The time budget of 0.001 minutes left out 2 of 6 points (experiment 1; `--time-budget-minutes` gives more)."
    assert told in head and told in printed
    assert re.search(r"The stages that are never shortened took \d+\.\d minutes, more than the budget", head)
    left_out = "1 of 2 points not measured (batch 64 at concurrency 1)"
    assert body.count(f"Left out by the time budget: {left_out}.") == 2
    stage = next(stage for stage in task(run)["stages"] if stage["name"] == "performance offline")
    assert stage["state"] == "ok" and stage["message"] == f"left out by the time budget: {left_out}"
    assert stage["message"] in printed
    assert "time budget: 60 minutes for 2 experiments, about 1800 s each" in finished_runs[0][1]


def test_settings_are_searched_deployed_and_measured(finished_runs: list[tuple[Path, str]]) -> None:
    run, printed = finished_runs[1]
    folder = run / "experiment_1"
    lines = rows(folder / "search.csv")
    assert len({(line["Instances"], line["Threads"], line["Preferred batch sizes"]) for line in lines}) > 1
    assert [line["Stage"] for line in lines].count("final") == 2
    assert all(float(line["Inferences/Second"]) > 0 and line["Settled"] in ("yes", "no") for line in lines)
    chosen = {(line["Preferred batch sizes"], line["Threads"]) for line in lines if line["Chosen"] == "yes"}
    ((size, threads),) = chosen
    told = (folder / "search" / "config.pbtxt").read_text()
    assert f"preferred_batch_size: {size}" in told and f'string_value: "{threads}"' in told
    assert (folder / "config.pbtxt").read_text() == told, "what follows is served with the chosen settings"
    assert (run / "plots" / "search_1.png").read_bytes().startswith(PNG)
    assert "No candidate kept to the budget of 0.001 ms" in (run / "report.md").read_text()
    assert f"    threads: {threads}" in printed and "s left, best so far" in printed
    for name in ("search_01_deploy", "search_01_performance"):
        assert (run / "logs" / f"experiment_1_{name}.log").exists()
    assert "search/01.csv" in (folder / "replay.sh").read_text()


def test_capacity_is_measured_reported_and_sized(finished_runs: list[tuple[Path, str]]) -> None:
    run, printed = finished_runs[1]
    for folder in (run / "experiment_1", run / "experiment_1" / "ensemble"):
        measured = read_capacity(folder / "triton_performance_capacity.csv")
        assert {(row["Rows"], row["Latency Budget"]) for row in measured} == {(4, 100_000)}
        assert all(row["Inferences/Second"] > 0 and row["Requests"] >= 700 for row in measured if row["Valid"])
        assert len(list((folder / "loadgen").glob("*_summary.txt"))) == len(measured)
    summary = read_capacity_summary(run / "triton_performance_capacity_summary.csv", "model")
    assert summary.keys() == {"WidenDeep", ENSEMBLE}
    assert (run / "plots" / "capacity.png").read_bytes().startswith(PNG)
    report = (run / "report.md").read_text()
    assert report.count("### Capacity") == 2 and "(plots/capacity.png)" in report
    for text in (report, printed):
        assert "capacity at p99 ≤ 100 ms, 4 rows (inferences/s)" in text
        assert "100,000 inferences/s in requests of 4 rows at p99 ≤ 100 ms, each server at 60 % of its capacity" in text


def test_replay_script_repeats_an_experiment(
    finished_run: tuple[Path, str], tmp_path: Path, nothing_left: None
) -> None:
    folder = finished_run[0] / "experiment_2"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    out = tmp_path / "workspace" / "again"
    command = ["bash", str(folder / "replay.sh"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = {path.name for path in (out / "results").iterdir()}
    assert {"correctness.csv", "triton_performance_offline.csv", "triton_performance_online.csv"} <= names
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
