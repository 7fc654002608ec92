from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError, UsageError
from runner.compare.__main__ import main
from runner.compare.alignment import align
from runner.compare.comparison import TABLE, TEXT, Comparison
from runner.compare.html import HTML
from runner.config.baseline import parse_share
from runner.kept_run import KeptExperiment, KeptRun, read_kept_run
from tests.measured_runs import PARAMETERS, SYSTEM, capacity_row, performance_row, write_run

REPORTS = ROOT / "reports"
STEADY, SLOW = (1000.0, 1010.0, 990.0), (700.0, 707.0, 693.0)
QUICK_US, LATE_US = (1000.0, 1001.0, 999.0), (1430.0, 1431.0, 1429.0)


def compare(base: Path, *others: Path) -> Comparison:
    return Comparison.of([read_kept_run(folder) for folder in (base, *others)])


def cells(base: Path, other: Path, measure: str = "inferences/s") -> dict[str, str]:
    """The only row of a measure."""
    (row,) = [row for row in compare(base, other).cells if row["measure"] == measure]
    return row


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


def tables(text: str) -> list[dict[str, str]]:
    """Rows of all tables of a markdown text, by their columns."""
    found: list[dict[str, str]] = []
    header: list[str] = []
    for line in text.splitlines():
        line_cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            header = []
        elif not header:
            header = line_cells
        elif not line.startswith("|-"):
            found.append(dict(zip(header, line_cells, strict=True)))
    return found


def run(name: str, *experiments: Mapping[str, str]) -> KeptRun:
    """A run of experiments without figures."""
    made = [KeptExperiment(n, "", {"experiment": str(n), **item}) for n, item in enumerate(experiments, 1)]
    return KeptRun(name, Path(name), "", "", "", {}, {}, (), made)


def test_slower_server_is_told_from_noise_and_an_equal_one_is_not(tmp_path: Path) -> None:
    base = write_run(tmp_path / "base", [performance_row(STEADY, QUICK_US)])
    slow = write_run(tmp_path / "slow", [performance_row(SLOW, LATE_US)])
    again = write_run(tmp_path / "again", [performance_row(tuple(reversed(STEADY)), QUICK_US)])
    assert cells(base, slow)["verdict"] == "worse" and cells(base, slow)["difference"] == "-30.0 %"
    assert cells(base, slow, "avg latency (ms)")["verdict"] == "worse"
    assert cells(slow, base)["verdict"] == "better" and cells(slow, base, "avg latency (ms)")["verdict"] == "better"
    assert cells(base, again)["verdict"] == "can't be told apart"
    assert cells(base, slow, "p99 latency (ms)")["verdict"] == "no interval"


def test_regression_is_what_is_worse_by_more_than_the_limit_at_every_ratio(tmp_path: Path) -> None:
    base = write_run(tmp_path / "base", [performance_row(STEADY, QUICK_US)])
    slow = write_run(tmp_path / "slow", [performance_row(SLOW, QUICK_US)])
    noisy = write_run(tmp_path / "noisy", [performance_row((500.0, 1000.0, 600.0), QUICK_US)])
    found = compare(base, slow).judge(0.05)
    assert found.exit_code == 3 and [line.measure for line in found.slower] == ["inferences/s"]
    told = "1 of 2 judged figures got worse by more than 5 % beyond noise; without an interval and not judged: 1."
    assert found.sentence == told
    assert compare(base, slow).judge(0.29).exit_code == 0, "30 % is not for certain more than 29 %"
    assert compare(base, noisy).judge(0.05).exit_code == 0, "a mean of -30 % whose windows differ twofold"
    assert compare(slow, base).judge(0.05).exit_code == 0, "better is not worse"
    assert compare(base, base, slow).judge(0.05).exit_code == 3


def test_nothing_to_judge_is_an_error(tmp_path: Path) -> None:
    without = write_run(tmp_path / "without", [performance_row() | {"Inferences/Second": 100.0}])
    base = write_run(tmp_path / "base", [performance_row(STEADY, QUICK_US)])
    other = write_run(tmp_path / "other", [performance_row(STEADY, QUICK_US, Batch=8)])
    for one, two in ((base, without), (without, base), (base, other)):
        with pytest.raises(DataError, match="nothing can be judged: of [03] common figures none has an interval"):
            _ = compare(one, two).judge(0.05).exit_code


def test_other_programs_and_a_slower_cpu_widen_the_interval() -> None:
    """The columns of a disturbed measurement: 0.8 of 2 cores lost explain 30 %, and so does a CPU that takes 1.5 times
    as long for the same work, if it is the same CPU."""
    known = {"Other Cores": 0.0, "Steal Cores": 0.0, "CPU Speed Before": 10.0, "CPU Speed After": 10.0}

    def other(changes: Mapping[str, Any], system: Mapping[str, Any] = SYSTEM) -> list[str]:
        rows = [performance_row(SLOW, LATE_US) | known | {**changes}]
        experiment = KeptExperiment(1, "", PARAMETERS, (), rows)
        quiet = KeptExperiment(1, "", PARAMETERS, (), [performance_row(STEADY, QUICK_US) | known])
        runs = [
            KeptRun(name, Path(name), "", "", "", host, {}, (), [item])
            for name, host, item in (("base", SYSTEM, quiet), ("other", system, experiment))
        ]
        found = Comparison.of(runs)
        disturbed = bool(changes.get("Disturbed"))
        assert found.lines[0].notes == (("disturbed: second",) if disturbed else ())
        (row,) = [row for row in tables(found.markdown([], None)) if "no interval" in row]
        assert row.get("disturbed") == ("3" if disturbed else None)
        assert ("‡ marks these measurements" in found.markdown([], None)) == disturbed
        return [str(line.verdict) for line in found.lines[:2]]

    assert other({}) == ["worse", "worse"]
    unclear = ["can't be told apart"] * 2
    assert other({"Other Cores": 0.5, "Steal Cores": 0.3, "Disturbed": True}) == unclear
    assert other({"Other Cores": 0.1, "Disturbed": True}) == ["worse", "worse"]
    slower_cpu = {"CPU Speed Before": 14.0, "CPU Speed After": 16.0}
    assert other(slower_cpu) == unclear
    assert other(slower_cpu, {**SYSTEM, "cpu": "another"}) == ["worse"] * 2


def dump(name: str, loss: float = 0.0, out: int = 0, passed: bool = True) -> dict[str, str]:
    figures = {"name": name, "rows": "1000", "auc": str(0.7 - loss), "auc_difference": str(-loss)}
    return {**figures, "max_abs_diff": "", "rows_out_of_tolerance": str(out), "passed": str(passed)}


@pytest.mark.parametrize(
    ("served", "told"),
    [
        (dump("grpc_sync", loss=2e-3), ["auc, distance: 1.0e-03 -> 2.0e-03"]),
        (dump("grpc_sync", loss=-2e-3), ["auc, distance: 1.0e-03 -> 2.0e-03"]),
        (dump("grpc_sync", loss=1.05e-3), []),
        (dump("grpc_sync", loss=1e-3, out=4), ["rows out of tolerance: 3 -> 4"]),
        (dump("grpc_sync", loss=1e-3, passed=False), ["passed: yes -> no"]),
        (dump("grpc_sync", loss=float("nan"), out=2), ["auc, distance: 1.0e-03 -> inf"]),
    ],
)
def test_correctness_that_got_worse_counts(served: dict[str, str], told: Sequence[str], tmp_path: Path) -> None:
    row = performance_row(STEADY, QUICK_US)
    base = write_run(tmp_path / "a", [row], correctness=[dump("framework"), dump("grpc_sync", loss=1e-3, out=3)])
    other = write_run(tmp_path / "b", [row], correctness=[dump("framework"), served])
    found = compare(base, other).judge(0.05)
    assert [str(line).partition("grpc_sync, ")[2] for line in found.wrong] == told
    assert found.exit_code == (3 if told else 0)


def test_capacity_is_compared_by_what_the_tried_rates_leave_open(tmp_path: Path) -> None:
    def curve(holds: float, fails: float, **changes: Any) -> list[Any]:
        failing = capacity_row(fails, Valid=False, Capacity=False, **changes)
        return [capacity_row(holds), failing] if holds else [failing]

    def requests(holds: float, fails: float, **changes: Any) -> dict[str, str]:
        rows = curve(holds, fails, **changes)
        other = write_run(tmp_path / f"{holds}_{fails}", capacity=rows)
        (row,) = [row for row in compare(base, other).cells if row["measure"] == "requests/s"]
        return row

    base = write_run(tmp_path / "base", capacity=curve(400, 420))
    assert (
        requests(370, 380)["verdict"]
        == requests(400, 430)["verdict"]
        == requests(410, 425)["verdict"]
        == "can't be told apart"
    )
    slower = requests(200, 210)
    assert (slower["verdict"], slower["95 % interval"]) == ("worse", "-56.7 % to -42.2 %")
    assert (slower["rows"], slower["p99 within"], slower["base value"]) == ("32", "20 ms", "400")
    other_budget = capacity_row(210, **{"Latency Budget": 50_000.0, "p99 latency": 21_000.0})
    slow = write_run(tmp_path / "shared", capacity=[capacity_row(200), other_budget])
    assert cells(base, slow, "requests/s")["95 % interval"] == slower["95 % interval"], "a run for 50 ms tells of 20 ms"
    for unclear in ({"Disturbed": True}, {"Late Sends": 0.2}):  # the client's fault, or others'
        spoiled = requests(200, 211, **unclear)
        assert (spoiled["verdict"], spoiled["notes"]) == ("no interval", "the server may do more: second")
    none = requests(0, 100)
    assert (none["value"], none["verdict"], none["notes"]) == ("0", "worse", "no rate holds: second")


def test_table_and_text_say_the_same(tmp_path: Path) -> None:
    online = [performance_row(STEADY, QUICK_US, Batch=32, Concurrency=64)]
    correctness = [dump("framework"), dump("grpc_sync", loss=5e-3), dump("http_sync")]
    changed = [dump("framework"), dump("grpc_sync", loss=7e-3)]
    base = write_run(tmp_path / "base", [performance_row(STEADY, QUICK_US)], online, [capacity_row(10)], correctness)
    other = write_run(tmp_path / "other", [performance_row(SLOW, LATE_US)], online, [capacity_row(9)], changed)
    compare(base, other).write(tmp_path / "out", None)
    rows = rows_of(tmp_path / "out")
    told = tables((tmp_path / "out" / TEXT).read_text())
    assert len(rows) == 15 and sum(row["scenario"] != "correctness" for row in rows) == 7
    for row in rows:
        same = [shown for shown in told if shown.items() <= row.items() and len(shown) > 5]
        assert len(same) == (0 if row["verdict"] in ("same", "not judged") else 1), row
    assert "- onnx fp32, correctness of http_sync: only in base\n" in (tmp_path / "out" / TEXT).read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        TEXT, TABLE, HTML, "comparison_offline.png", "comparison_online.png", "differences.png",
    }  # fmt: skip
    compare(base, other).write(tmp_path / "out", None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something else than a comparison"):
        compare(base, other).write(tmp_path / "mine", None)


def test_experiments_of_one_format_are_told_apart_by_as_little_as_needed() -> None:
    fp32 = {"format": "onnx", "precision": "fp32", "instances": "1"}
    one, two = {**fp32, "host": "cpp"}, {**fp32, "instances": "2", "host": "cpp"}
    int8 = {"format": "onnx", "precision": "int8", "instances": "4"}
    together = align([run("a", one, two, int8), run("b", two, {**int8, "instances": "3"}), run("c", fp32)])
    assert {item.title: [side and side.number for side in item.sides] for item in together} == {
        "onnx fp32, instances 1": [1, None, 1],
        "onnx fp32, instances 2": [2, 1, None],
        "onnx int8": [3, 2, None],
    }
    assert together[-1].settings == {"instances": ["4", "3", ""]}
    twice = align([run("a", one, one), run("b", one, one)])
    assert [[side and side.number for side in item.sides] for item in twice] == [[1, 1], [2, 2]]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(
            st.fixed_dictionaries(
                {"format": st.sampled_from("ab"), "precision": st.sampled_from("xy")},
                optional={"host": st.sampled_from("pq"), "threads": st.sampled_from("12")},
            ),
            max_size=5,
        ),
        min_size=2,
        max_size=3,
    )
)
def test_no_experiment_is_lost_and_none_is_with_another_format(sides: list[list[dict[str, str]]]) -> None:
    runs = [run(f"run {number}", *side) for number, side in enumerate(sides)]
    together = align(runs)
    for index, item in enumerate(runs):
        found = [one.sides[index] for one in together if one.sides[index] is not None]
        assert sorted(side.number for side in found if side) == [one.number for one in item.experiments]
    for one in together:
        assert len({(side.parameters["format"], side.parameters["precision"]) for side in one.sides if side}) == 1
    assert len({item.title for item in together}) == len(together)


def test_what_is_not_as_it_should_be_is_noted(tmp_path: Path) -> None:
    base = write_run(tmp_path / "a", [performance_row(STEADY, QUICK_US, Refused=1000.0)])
    other = write_run(tmp_path / "b", [performance_row(STEADY, QUICK_US, Settled=False)], state="failed")
    assert cells(base, other)["notes"] == "unsettled: second; 50.0% refused: first"
    text = compare(base, other).markdown([], None)
    ended = [row["ended"] for row in tables(text) if "ended" in row]
    assert ended == ["well", "experiment 1, performance offline: failed"]


def test_only_what_differs_of_host_and_configuration_is_told(tmp_path: Path) -> None:
    base = write_run(tmp_path / "a", [performance_row(STEADY, QUICK_US)])
    host = {**SYSTEM, "cpu": "another CPU", "packages": {"openvino": "2", "numpy": "1"}}
    other = write_run(tmp_path / "b", [performance_row(STEADY, QUICK_US)], system=host)
    lines = compare(base, other).markdown([], None).splitlines()
    start = lines.index("## What differs beside the figures")
    told = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 4 : start + 8]]
    assert told[:3] == [
        ["host: cpu", "a CPU", "another CPU"],
        ["package: openvino", "1", "2"],
        ["package: numpy", "-", "1"],
    ]
    assert not told[3][0]


def test_command_compares_kept_reports_and_published_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["cpu_2_cores", "cpu_2_cores_epyc", "published:A30"]
    assert main([*texts, "--workspace-path", str(tmp_path)]) == 0
    folder = tmp_path / "comparisons" / "cpu_2_cores_epyc_vs_published_NVIDIA_A30_vs_cpu_2_cores"
    assert f"comparison: {folder / TEXT}" in capsys.readouterr().out
    rows = rows_of(folder)
    (row,) = [
        row
        for row in rows
        if (row["run"], row["experiment"], row["batch"], row["measure"], row["scenario"])
        == ("cpu_2_cores_epyc", "openvino int8", "4096", "inferences/s", "offline")
    ]
    assert (row["base value"], row["value"], row["verdict"]) == ("136055", "64801", "no interval")
    assert row["difference"] == "-52.4 %"
    assert {row["run"] for row in rows} == {"cpu_2_cores_epyc", "published:NVIDIA A30"}
    text = (folder / TEXT).read_text()
    assert "trt fp16: only in published:NVIDIA A30" in text
    assert "tf-savedmodel fp32, offline, batch x concurrency 16384 x 1" in text
    with pytest.raises(DataError, match="nothing can be judged"):
        main([*texts, "--workspace-path", str(tmp_path), "--max-regression", "5%"])


def test_one_run_is_compared_with_the_latest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_run(tmp_path / "runs" / "first", [performance_row(STEADY, QUICK_US)])
    write_run(tmp_path / "runs" / "second", [performance_row(SLOW, LATE_US)])
    (tmp_path / "runs" / "latest").symlink_to("second")
    assert main([base.name, "--workspace-path", str(tmp_path), "--max-regression", "5%"]) == 3
    told = capsys.readouterr().out
    assert told.startswith(
        "second against first: throughput -30.0 % (median of 1 points, -30.0 % to -30.0 %). Of 3 figures 0 better, "
        "2 worse, 0 can't be told apart, 1 without an interval.\n"
    )
    assert "2 of 2 judged figures got worse by more than 5 % beyond noise; without an interval" in told
    assert "- onnx fp32, offline, batch 1, concurrency 1, inferences/s: 1000 -> 700, -30.0 % (" in told


def test_runs_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / place / "run", [performance_row(STEADY, QUICK_US)]) for place in "ab"]
    assert compare(*folders).names == ["a/run", "b/run"]
    assert compare(folders[0], folders[0]).names == ["a/run", "a/run (2)"]


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("5", 0.05), (" 0.5 % ", 0.005), ("0%", 0.0)])
def test_percentage_is_read(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "five", "-5%", "100%", "nan", "1e1", "5%%"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no percentage from 0% to below 100%"):
        parse_share(text)
