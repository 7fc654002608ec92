"""The page of a run, from a kept report, in a browser."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.results.capacity import CAPACITY_COLUMNS, CapacityRow, capacity_cells, marked, sizing
from deployment_toolkit.results.performance import LATENCY_PARTS, P99, THROUGHPUT
from deployment_toolkit.results.tables import read_csv, write_csv
from runner.kept_run import KeptExperiment, read_kept_run
from runner.report.html.__main__ import main
from runner.report.html.figures import frontier_of
from runner.report.html.offers import Offer, Wanted
from runner.report.html.page import PAGE, run_page, write_run_page
from tests.browser import Browser, needs_browser, open_browser

KEPT = ROOT / "reports" / "cpu_2_cores_epyc"
WITHOUT_CAPACITY = ROOT / "reports" / "cpu_2_cores"
LARGEST_BYTES = 1_500_000
ATTACK = "</script></style>\"'><img src=x onerror=hits=1><script>hits=1</script><!--"
DRAWN = """[...document.querySelectorAll("canvas")].map((canvas) => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const colours = new Set();
  for (let at = 0; at < pixels.length; at += 4) if (pixels[at + 3]) colours.add(pixels.slice(at, at + 3).join());
  return colours.size > 20;
})"""
SERIES = """(id) => Chart.getChart(document.querySelector(`#${id} canvas`)).data.datasets.map(
  (series) => [series.label, series.data.map((point) => [point.x, point.y, point.mark])])"""
LOGARITHMIC_LABELS = """Object.values(Chart.instances).flatMap((chart) => Object.values(chart.scales).filter(
  (scale) => scale.type === "logarithmic").flatMap((scale) => scale.ticks.map((tick) => tick.label)))"""
ANSWERS = """[...document.querySelectorAll(".answer")].map((card) => [card.querySelector("h2").textContent,
  card.querySelector(".big").textContent])"""
SIZING = """[...document.querySelectorAll("form.sizing tbody tr")].map(
  (line) => [...line.cells].map((cell) => cell.textContent))"""


def capacity_row(rows: int, budget_ms: float, rate: float, limit: float) -> CapacityRow:
    """A run of the load generator at a server that answers at most ``limit`` requests a second."""
    p99_us = 2000.0 / max(0.01, 1 - rate / limit)
    row: dict[str, Any] = {column.name: 0.0 for column in CAPACITY_COLUMNS}
    row |= {"Rows": rows, "Latency Budget": budget_ms * 1000, "Offered Requests/Second": rate, "Requests": 2000}
    row |= {"Requests/Second": min(rate, limit), "Inferences/Second": min(rate, limit) * rows, "p99 latency": p99_us}
    return row | {"Late Sends": 0.2 if rate > limit else 0.001, "Valid": p99_us <= budget_ms * 1000, "Capacity": False}


def settled(row: Mapping[str, str]) -> bool:
    return (row["Settled"], row["Disturbed"]) == ("yes", "no")


def add_capacity(run: Path) -> None:
    """Capacity of experiments 3 and 5 as a run's summary."""
    lines = []
    for line in read_csv(run / "correctness_summary.csv"):
        if line["name"] == "framework" and line["experiment"] in "35":
            parameters = {name: line[name] for name in list(line)[: list(line).index("name")]}
            limit = 1000.0 * int(line["experiment"])
            found = [
                capacity_row(rows, budget, share * limit / rows**0.5, limit / rows**0.5)
                for rows in (1, 32)
                for budget in (10.0, 20.0)
                for share in (0.3, 0.6, 0.8, 0.9, 1.2)
            ]
            lines += [parameters | capacity_cells(row) for row in marked(found)]
    write_csv(run / "triton_performance_capacity_summary.csv", lines)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all that a page can show: of the kept report, with capacity."""
    folder = tmp_path_factory.mktemp("runs") / "20261130T040558Z"
    shutil.copytree(KEPT, folder)
    add_capacity(folder)
    write_run_page(folder)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@needs_browser
def test_page_draws_the_numbers_of_the_csv_files(browser: Browser, run: Path) -> None:
    page = run / PAGE
    assert page.stat().st_size < LARGEST_BYTES

    browser.open(page)

    assert browser.complaints == [] and browser.requests == [page.as_uri()]
    drawn = browser.evaluate(DRAWN)
    assert len(drawn) == 4 + 2 + 2 + 10 + 4 + 2 and all(drawn)
    labels = browser.evaluate(LOGARITHMIC_LABELS)
    assert {label.partition("e")[0].strip("0.,") for label in labels} == {"", "1", "2", "5"}
    for mode, column in (("offline", "Batch"), ("online", "Concurrency")):
        rows = read_csv(run / f"triton_performance_{mode}_summary.csv")
        for identifier, measure, divisor in ((f"{mode}-rate", THROUGHPUT, 1), (f"{mode}-p99", P99, 1000)):
            found = [tuple(point) for _, points in browser.evaluate(f"({SERIES})('{identifier}')") for point in points]
            assert found == [
                (int(row[column]), float(row[measure]) / divisor, "" if settled(row) else "doubtful") for row in rows
            ]
        parts = browser.evaluate(f"({SERIES})('{mode}-parts-4')")
        own = [row for row in rows if row["experiment"] == "5"]
        assert [name for name, _ in parts] == list(LATENCY_PARTS)
        assert [[y for _, y, _ in points] for _, points in parts] == [
            [float(row[part]) / 1000 for row in own] for part in LATENCY_PARTS
        ]
    rows = read_csv(run / "triton_performance_capacity_summary.csv")
    curves = dict(browser.evaluate(f"({SERIES})('capacity-32')"))
    assert curves.keys() == {"3: openvino fp32", "5: openvino int8"}
    for x, y, mark in curves["5: openvino int8"]:
        same = [
            row
            for row in rows
            if row["experiment"] == "5" and float(row["Offered Requests/Second"]) == pytest.approx(x, abs=0.01)
        ]
        assert same and all(float(row["p99 latency"]) / 1000 == pytest.approx(y, abs=0.01) for row in same)
        assert (mark == "chosen") == any(row["Capacity"] == "yes" for row in same)
    data = browser.evaluate("JSON.parse(document.getElementById('page-data').textContent)")
    online = read_csv(run / "triton_performance_online_summary.csv")
    counted = [sum(row["experiment"] == str(number) for row in online) for number in range(1, 6)]
    assert [len(item["online"]) for item in data["experiments"]] == counted
    assert data["config"] == json.loads(json.dumps(yaml.safe_load((run / "task.yaml").read_text())["config"]))


@needs_browser
def test_answers_at_the_top_and_servers_are_counted_as_asked(browser: Browser, run: Path) -> None:
    browser.open(run / PAGE)
    answers = dict(browser.evaluate(ANSWERS))
    best = next(
        row for row in read_csv(run / "triton_performance_capacity_summary.csv")
        if (row["experiment"], row["Rows"], row["Latency Budget"], row["Capacity"]) == ("5", "32", "20000", "yes")
    )  # fmt: skip
    rows_per_second = float(best[THROUGHPUT])
    assert answers["Which format do I deploy?"] == "openvino int8 experiment 5"
    told = f"≥ {rows_per_second / 32:,.0f} requests/s of 32 rows at p99 ≤ 20 ms: {rows_per_second:,.0f} inferences/s"
    assert answers["How many requests a second at my latency?"] == told
    servers = sizing(100_000, {THROUGHPUT: rows_per_second})
    assert answers["How many machines?"].startswith(f"≤ {servers} servers for 100,000 rows/s in requests of 32")
    assert "≥: the server may do more" in browser.evaluate("document.body.textContent"), "no rate close above it failed"
    assert answers["Better or worse than before?"] == "Not compared"
    assert "framework: openvino fp32 at 53% of its rate." in browser.evaluate("document.body.textContent")
    lines = browser.evaluate(SIZING)
    assert [line[:2] for line in lines] == [["openvino int8", str(servers)], ["openvino fp32", lines[1][1]]]
    browser.evaluate(
        """(() => { const form = document.querySelector("form.sizing"); form.elements.wanted.value = 1e6;
        form.elements.load.value = 50; form.elements.budget.value = 10;
        form.dispatchEvent(new Event("input")); })()"""
    )
    changed = browser.evaluate(SIZING)
    slower = float(changed[0][3].replace(",", ""))
    assert slower < rows_per_second
    assert int(changed[0][1].replace(",", "")) == sizing(1e6, {THROUGHPUT: slower}, 0.5)


@needs_browser
def test_page_is_dark_fits_a_phone_and_prints(browser: Browser, run: Path) -> None:
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    line = "Chart.getChart(document.querySelector('canvas')).data.datasets[0].borderColor"
    browser.open(run / PAGE)
    light, colour = browser.evaluate(brightness), browser.evaluate(line)
    browser.open(run / PAGE, dark=True)
    assert max(browser.evaluate(brightness)) < 60 < 200 < min(light)
    assert browser.evaluate(line) != colour
    browser.open(run / PAGE, width=360, height=740, phone=True)
    browser.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert browser.evaluate("document.documentElement.scrollWidth") == 360
    assert browser.evaluate("[...document.querySelectorAll('canvas')].every((c) => c.clientWidth <= 340)")
    assert all(browser.evaluate(DRAWN)) and browser.complaints == []
    assert browser.pdf().startswith(b"%PDF") and browser.evaluate("document.documentElement.dataset.print") is None


@needs_browser
def test_texts_of_a_run_can_do_nothing(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(KEPT, folder)
    record = yaml.safe_load((folder / "task.yaml").read_text())
    record["command"] = record["system"]["cpu"] = record["config"]["model_name"] = ATTACK
    record["system"]["packages"][ATTACK] = ATTACK
    record["stages"][0] |= {"name": ATTACK, "message": ATTACK, "state": "failed", "log": ATTACK}
    record["config"]["correctness"]["metrics"] = {"map12": {"title": ATTACK}}
    (folder / "task.yaml").write_text(yaml.safe_dump(record))
    for path in folder.glob("*_summary.csv"):
        rows = read_csv(path)
        write_csv(path, [row | {"model": ATTACK, "format": ATTACK, "host": ATTACK} for row in rows])
    write_run_page(folder)
    browser.open(folder / PAGE)
    assert browser.evaluate("globalThis.hits") is None
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert browser.complaints == [] and browser.requests == [(folder / PAGE).as_uri()]
    assert browser.evaluate("document.title").startswith(ATTACK) and all(browser.evaluate(DRAWN))


@needs_browser
def test_every_kept_report_becomes_a_page(browser: Browser, tmp_path: Path) -> None:
    """Older ones with fewer columns, other networks, ensembles and skipped experiments among them."""
    kept = sorted(path.parent for path in (ROOT / "reports").glob("*/task.yaml"))
    assert len(kept) >= 5
    for folder in kept:
        page = tmp_path / f"{folder.name}.html"
        page.write_text(run_page(read_kept_run(folder)))
        browser.open(page)
        drawn = browser.evaluate(DRAWN)
        assert browser.complaints == [] and len(drawn) > 8 and all(drawn), folder.name
        assert len(browser.evaluate(ANSWERS)) == 4 and page.stat().st_size < LARGEST_BYTES


def test_run_without_capacity_answers_from_its_closed_loops() -> None:
    text = run_page(read_kept_run(WITHOUT_CAPACITY))
    assert "2,158 requests/s <small>of 32 rows at p99 ≤ 50 ms: 69,071 inferences/s" in text
    assert "write <code>capacity: {}</code> into the configuration" in text and "hides queueing" in text
    assert "With answers as from the framework: openvino fp32. Served, it has" in text
    assert "3 servers <small>for 100,000 rows/s in requests of 32 at p99 ≤ 50 ms, each at 60% load" in text


def test_wrong_answers_are_never_recommended(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(KEPT, folder)
    path = folder / "correctness_summary.csv"
    rows = read_csv(path)
    write_csv(path, [row | {"passed": str(row["experiment"] != "5")} for row in rows])
    text = run_page(read_kept_run(folder))
    assert '<p class="big">openvino bf16 <small>experiment 4' in text
    assert "Never deploy, for their answers differ: 5: openvino int8." in text
    write_csv(path, [row | {"passed": "False"} for row in rows])
    text = run_page(read_kept_run(folder))
    assert '<p class="big">None yet</p>' in text and "No experiment&#39;s answers passed the comparison" in text
    path.unlink()
    assert "No experiment came as far as the comparison" in run_page(read_kept_run(folder))


def test_demand_of_the_configuration_and_budgets_that_nothing_holds(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(KEPT, folder)
    add_capacity(folder)
    record = yaml.safe_load((folder / "task.yaml").read_text())
    wish = {"inferences_per_second": 5000.0, "rows": 1, "latency_budget_ms": 10.0, "load": 0.5}
    record["config"]["capacity"] = {"sizing": wish}
    (folder / "task.yaml").write_text(yaml.safe_dump(record))
    assert "for 5,000 rows/s in requests of 1 at p99 ≤ 10 ms, each at 50% load" in run_page(read_kept_run(folder))
    path = folder / "triton_performance_capacity_summary.csv"
    write_csv(path, [row | {"Valid": "no", "Capacity": "no"} for row in read_csv(path)])
    text = run_page(read_kept_run(folder))
    assert "5: openvino int8: no rate holds 1 rows within 10 ms, 1 rows within 20 ms" in text
    assert "No rate that was measured holds a latency budget." in text


def test_disturbed_measurements_and_failures_are_told_at_the_top() -> None:
    run = read_kept_run(KEPT)
    speed = {"CPU Speed Before": 7.5, "CPU Speed After": 7.5}
    rows = [
        {**row, **speed, "Disturbed": index < 2, "Other Cores": 0.5, "Steal Cores": 0.2}
        for index, row in enumerate(run.experiments[0].online)
    ]
    experiments = [replace(run.experiments[0], offline=[], online=rows, capacity=[])]
    stages = [replace(run.stages[0], state="failed", message="no disk"), *run.stages[1:-1]]
    stages.append(replace(run.stages[-1], message="left out by the time budget: concurrency 128"))
    text = run_page(replace(run, experiments=experiments, stages=stages))
    told = "other programs used up to 0.50 cores, other virtual machines took up to 0.20 cores"
    assert f"2 of {len(rows)} measurements were disturbed (‡): {told}." in text
    assert "✗ Not everything passed" in text and "preparation, demo data: failed. no disk" in text
    assert f"<li>experiment 5, {stages[-1].name}: left out by the time budget: concurrency 128</li>" in text
    assert "minutes left out points or repeats of" in text
    assert text.index("Which format do I deploy?") < text.index("What the stages say ("), "answers first"
    told = "‡ disturbed: other programs used 0.50 cores, other virtual machines took 0.20 cores"
    assert text.count(told) == 6, "in three charts"
    slow = [{**rows[0], "CPU Speed After": 15.0}, *rows[1:]]
    text = run_page(replace(run, experiments=[replace(experiments[0], online=slow), *experiments[1:]]))
    assert text.count(f"{told}, the CPU took 2.0 times as long for the same work as at best") == 3
    quiet = [row | {"Disturbed": False} for row in rows]
    assert "No measurement was disturbed: other programs used at most 0.50 cores" in run_page(
        replace(run, experiments=[replace(experiments[0], online=quiet), *experiments[1:]])
    )


def test_parts_of_a_resumed_run_are_told() -> None:
    run = read_kept_run(KEPT)
    parts = [{"command": f"python -m runner {text}", "host": "a host"} for text in ("--first", "--resume")]
    text = run_page(replace(run, task={"parts": parts}))
    assert "in 2 parts, for it was resumed" in text and ">python -m runner --resume</td>" in text
    assert "resumed" not in run_page(run)


def test_comparison_with_the_baseline_answers_the_last_question(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(KEPT, folder)
    (folder / "comparison").mkdir()
    point = {"scenario": "online", "experiment": "openvino int8", "batch": "32", "concurrency": "64"}
    figures = {"measure": "inferences/s", "base value": "900", "value": "600", "difference": "-33.3 %"}
    line = point | figures | {"base": "old", "verdict": "worse"}
    equal = line | {"verdict": "can't be told apart"}
    write_csv(folder / "comparison" / "comparison.csv", [line, equal, equal])
    text = run_page(read_kept_run(folder))
    assert "Worse <small>against old: 0 figures better, 1 worse, 2 can't be told apart" in text
    assert "openvino int8, online, batch 32, concurrency 64: inferences/s 900 -&gt; 600 -33.3 %" in text
    assert 'href="comparison/comparison.csv"' in text
    write_csv(folder / "comparison" / "comparison.csv", [line | {"verdict": "better"}, equal])
    assert "Better <small>against old: 1 figures better, 0 worse" in run_page(read_kept_run(folder))


def test_command_makes_the_page_again(tmp_path: Path, run: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = (run / PAGE).read_bytes()
    (run / PAGE).unlink()
    with caplog.at_level("INFO"):
        main([str(run)])
    assert (run / PAGE).read_bytes() == before and str(run / PAGE) in caplog.text
    with pytest.raises(UsageError, match="no run"):
        main([str(tmp_path)])
    with pytest.raises(UsageError, match="has no page of its own"):
        main(["published:A30"])


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(KEPT, folder)
    path = folder / "correctness_summary.csv"
    write_csv(path, [row | {"max_abs_diff": "much"} for row in read_csv(path)])
    with pytest.raises(
        DataError, match=r"table of correctness of experiment 1 is damaged \(.*'much'.*give another run"
    ):
        write_run_page(folder)
    assert (folder / PAGE).read_bytes() == (KEPT / PAGE).read_bytes(), "the page of before"
    shutil.copyfile(KEPT / path.name, path)
    record = yaml.safe_load((folder / "task.yaml").read_text())
    (folder / "task.yaml").write_text(yaml.safe_dump(record | {"finished": "noon"}))
    with pytest.raises(DataError, match=r"task.yaml: 'noon' is no time of a run"):
        write_run_page(folder)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(rate=st.floats(1, 1e6), wanted=st.floats(1, 1e9), load=st.floats(0.05, 1), rows=st.integers(1, 4096))
def test_servers_are_enough_and_one_less_is_not(rate: float, wanted: float, load: float, rows: int) -> None:
    experiment = KeptExperiment(1, "", {"format": "onnx", "precision": "fp32"})
    count = Offer(experiment, rows, 20.0, rate, 10.0).servers(Wanted(rows, 20.0, wanted, load))
    assert count >= 1 and count * rate * load >= wanted * (1 - 1e-6)
    assert count == 1 or (count - 1) * rate * load < wanted


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1))
def test_no_point_beats_the_frontier(points: list[tuple[int, int]]) -> None:
    rows = [{P99: float(p99), THROUGHPUT: float(rate)} for p99, rate in points]
    frontier = frontier_of(rows)
    assert all(any(f[P99] <= r[P99] and f[THROUGHPUT] >= r[THROUGHPUT] for f in frontier) for r in rows)
    assert all(a[P99] < b[P99] and a[THROUGHPUT] < b[THROUGHPUT] for a, b in itertools.pairwise(frontier))


def test_quick_look_is_told_at_the_top() -> None:
    run = read_kept_run(KEPT)
    text = run_page(replace(run, task={**run.task, "quick": ["Experiments: 1, 5 of 5."]}))
    told = text.index("This is a quick look, not the full run.")
    assert told < text.index("Experiments: 1, 5 of 5.") < text.index("Which format do I deploy?")
    assert "quick look" not in run_page(run)
