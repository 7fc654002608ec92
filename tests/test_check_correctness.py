from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Array, Batch, Prediction
from deployment_toolkit.errors import ProcessError
from deployment_toolkit.process import run
from deployment_toolkit.rows.dump import DumpFormat, DumpOptions, DumpWriter
from tests.original_dump import Sections, write_original_dump

ROWS = 1000
IDS = np.arange(ROWS, dtype=np.int32) // 5
SCORES = np.random.default_rng(0).random(ROWS).astype(np.float32)
CLICKS = (np.random.default_rng(1).random(ROWS) < 0.3).astype(np.int32)


def write(
    path: Path,
    scores: Array = SCORES,
    ids: Array = IDS,
    clicks: Array = CLICKS,
    output: str = "wide_deep_model",
    dump_format: DumpFormat = DumpFormat.NPY,
) -> Path:
    with DumpWriter(DumpOptions(path, dump_labels=True, dump_format=dump_format)) as dump:
        for s in (slice(0, 300), slice(300, None)):
            dump.write(Prediction(Batch(ids[s], {}, {"clicked": clicks[s, None]}), {output: scores[s, None]}))
    return path


Gate = Callable[..., tuple[int | None, str, list[dict[str, str]]]]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Compares dumps with the reference: exit code, last line of stderr, and rows of the table."""
    reference = write(tmp_path / "reference")

    def check(*dumps: Path, options: tuple[str, ...] = ()) -> tuple[int | None, str, list[dict[str, str]]]:
        argv: list[str | Path] = [sys.executable, ROOT / "check_correctness.py", "--metrics", ROOT / "metrics.py"]
        argv += ["--reference-dump-dir", reference, "--csv", tmp_path / "correctness.csv", *options]
        argv += [part for dump in dumps for part in ("--dump-dir", dump)]
        code: int | None = 0
        try:
            stderr = run(argv, log_path=tmp_path / f"log_{len(list(tmp_path.iterdir()))}").stderr
        except ProcessError as error:
            code, stderr = error.returncode, error.stderr
        table = tmp_path / "correctness.csv"
        rows = list(csv.DictReader(table.read_text().splitlines())) if table.exists() else []
        return code, stderr.splitlines()[-1], rows

    return check


def test_dumps_that_agree_pass_the_gate(tmp_path: Path, gate: Gate) -> None:
    near = np.nextafter(SCORES, np.float32(1)).astype(np.float32)
    dumps = [write(tmp_path / "grpc", near), write(tmp_path / "http", dump_format=DumpFormat.JSON)]
    code, _, rows = gate(*dumps, options=("--max-metric-loss", "map12=1e-4"))
    assert code == 0
    assert [row["name"] for row in rows] == ["reference", "grpc", "http"]
    assert {(row["rows"], row["passed"], row["map12_difference"]) for row in rows} == {("1000", "True", "0.0")}
    differences = np.abs(near.astype(np.float64) - SCORES)
    assert float(rows[1]["max_abs_diff"]) == differences.max()
    assert float(rows[1]["p99_abs_diff"]) == np.quantile(differences, 0.99, method="lower")
    assert rows[2]["max_abs_diff"] == "0.0"
    again = [dumps[0], write(tmp_path / "again" / "grpc")]
    assert [row["name"] for row in gate(*again)[2]] == ["reference", *map(str, again)]


def test_every_batch_of_a_dump_of_the_original_is_compared(tmp_path: Path, gate: Gate) -> None:
    wrong = SCORES.copy()
    wrong[[300, 999]] += np.float32(0.25)
    for name, scores in (("same", SCORES), ("other", wrong)):
        cuts = [slice(start, start + 128) for start in range(0, ROWS, 128)]
        batches: list[Sections] = [
            {
                "ids": {"ids": IDS[s]},
                "outputs": {"wide_deep_model": scores[s, None]},
                "labels": {"wide_deep_model": CLICKS[s, None]},
            }
            for s in cuts
        ]
        write_original_dump(tmp_path / name, batches)
    assert gate(tmp_path / "same", options=("--max-metric-loss", "map12=0"))[0] == 0
    code, line, rows = gate(tmp_path / "same", tmp_path / "other")
    assert code == 1
    assert "other: 2 of 1000 rows differ" in line and "row 999 " in line and "row 300 " in line
    assert [row["rows"] for row in rows] == ["1000"] * 3


def test_rows_that_differ_most_are_listed_also_within_the_tolerance(tmp_path: Path, gate: Gate) -> None:
    other = SCORES.copy()
    changed = {2: 3e-6, 301: 1e-6, 302: 2e-6, 303: 4e-6, 500: 5e-6, 999: 6e-6, 7: 5e-7}
    for at, change in changed.items():
        other[at] += np.float32(change)
    worst = tmp_path / "worst.csv"
    options = ("--worst-rows-csv", str(worst))
    assert gate(write(tmp_path / "same"), write(tmp_path / "other", other), options=options)[0] == 0
    rows = list(csv.DictReader(worst.read_text().splitlines()))
    assert [(row["name"], int(row["row"])) for row in rows] == [("other", row) for row in (999, 500, 303, 2, 302)]
    for row in rows:
        at = int(row["row"])
        assert (int(row["id"]), row["output"]) == (IDS[at], "wide_deep_model")
        assert (float(row["reference"]), float(row["answer"])) == (SCORES[at], other[at])
        assert float(row["difference"]) == abs(float(other[at]) - float(SCORES[at]))
        assert row["rows_of_its_request"] == ("300" if at < 300 else "700")
    other[17] = np.nan
    assert gate(write(tmp_path / "nan", other), options=options)[0] == 1
    first = next(csv.DictReader(worst.read_text().splitlines()))
    assert (first["row"], first["difference"], first["answer"]) == ("17", "inf", "nan")
    assert gate(write(tmp_path / "equal"), options=options)[0] == 0
    assert worst.read_text() == "name,row,id,output,reference,answer,difference,rows_of_its_request\n"


def test_rows_out_of_tolerance_are_counted_and_the_worst_named(tmp_path: Path, gate: Gate) -> None:
    wrong = SCORES.copy()
    wrong[[17, 400, 999]] += np.array([0.01, 0.3, 0.02], np.float32)
    wrong[500] = np.nan
    code, line, rows = gate(write(tmp_path / "good"), write(tmp_path / "bad", wrong))
    assert code == 1
    assert line.startswith("error: bad: 4 of 1000 rows differ by more than 1e-05 + 0.0001 * |reference|, the worst: ")
    worst = [line.index(text) for text in ("row 500 ", "row 400 ", "row 999 ", "row 17 ")]
    assert worst == sorted(worst)
    assert f"{SCORES[400]:.7g} became {wrong[400]:.7g} (id 80, in a request of 700 rows)" in line
    assert [(row["passed"], row["rows_out_of_tolerance"]) for row in rows] == [
        ("True", "0"),
        ("True", "0"),
        ("False", "4"),
    ]
    assert gate(write(tmp_path / "fair", wrong.clip(0, 1)), options=("--atol", "0.5"))[0] == 1  # NaN is never right
    wrong[500] = SCORES[500]
    assert gate(write(tmp_path / "fair", wrong), options=("--atol", "0.5"))[0] == 0


def test_metric_may_gain_but_not_lose_more_than_allowed(tmp_path: Path, gate: Gate) -> None:
    loose = ("--atol", "1")
    worse, better = (np.where(CLICKS == 1, SCORES + change, SCORES).astype(np.float32) for change in (-0.2, 0.2))
    dumps = [write(tmp_path / "worse", worse.clip(0, 1)), write(tmp_path / "better", better.clip(0, 1))]
    assert gate(*dumps, options=loose)[0] == 0
    code, line, rows = gate(*dumps, options=(*loose, "--max-metric-loss", "map12=1e-4"))
    assert code == 1
    assert "worse: map12 is 0." in line
    assert "more than 0.0001 worse than 0." in line
    assert "better: " not in line
    assert [row["passed"] for row in rows] == ["True", "False", "True"]
    assert float(rows[1]["map12_difference"]) < -1e-4 < 1e-4 < float(rows[2]["map12_difference"])
    _, line, _ = gate(*dumps, options=(*loose, "--max-metric-loss", "log_loss=0.01"))
    assert "worse: log_loss is" in line  # where less is better
    assert "better: " not in line


@pytest.mark.parametrize(
    ("ids", "clicks", "limits", "reason"),
    [
        (
            np.arange(ROWS),
            CLICKS,
            ["map12=1e-4"],
            "map12 can't be checked, reference does not define it: every row is a",
        ),
        (IDS, CLICKS * 0, ["map12=1e-4"], "map12 can't be checked, reference does not define it: every label is 0"),
        (IDS, CLICKS * 0 + 1, ["log_loss=1", "roc_auc=1e-3"], "the limit on roc_auc can't be checked, reference does"),
        (IDS, CLICKS * 0 + 1, ["roc_auc=1e-3"], "does not define it: every label is 1; use other data, or leave"),
    ],
    ids=["no groups", "no clicks", "clicks only", "why"],
)
def test_limit_on_a_metric_that_is_not_defined_is_an_error(
    tmp_path: Path, gate: Gate, ids: Array, clicks: Array, limits: list[str], reason: str
) -> None:
    reference, served = (write(tmp_path / name, ids=ids, clicks=clicks) for name in ("all/reference", "served"))
    options = [part for limit in limits for part in ("--max-metric-loss", limit)]
    code, line, rows = gate(served, options=("--reference-dump-dir", str(reference), *options))
    assert (code, rows) == (1, [])
    assert reason in line


def test_limit_that_nobody_asked_for_counts_only_where_the_metric_is_defined(tmp_path: Path, gate: Gate) -> None:
    reference, served = (write(tmp_path / name, ids=np.arange(ROWS)) for name in ("all/reference", "served"))
    options = ("--reference-dump-dir", str(reference), "--max-metric-loss", "map12=1e-4", "--if-defined", "map12")
    code, _line, rows = gate(served, options=options)
    assert (code, [row["passed"] for row in rows]) == (0, ["True", "True"])
    assert gate(write(tmp_path / "worse", SCORES[::-1].copy()), options=("--atol", "1", *options[2:]))[0] == 1


def test_answers_that_make_a_limited_metric_undefined_fail_the_gate(tmp_path: Path, gate: Gate) -> None:
    wrong = SCORES.copy()
    wrong[3] = np.nan
    served = write(tmp_path / "served", wrong)
    code, line, _ = gate(served, options=("--atol", "1", "--max-metric-loss", "roc_auc=1e-3"))
    assert code == 1
    assert "served: roc_auc is not defined: 1 of the predictions are no number (NaN)" in line


def test_dumps_of_different_rows_fail_the_gate(tmp_path: Path, gate: Gate) -> None:
    other_ids, other_clicks = IDS.copy(), CLICKS.copy()
    other_ids[321] += 1
    other_clicks[654] = 1 - other_clicks[654]
    dumps = [
        write(tmp_path / "ids", ids=other_ids),
        write(tmp_path / "clicks", clicks=other_clicks),
        write(tmp_path / "short", SCORES[:900], IDS[:900], CLICKS[:900]),
    ]
    code, line, rows = gate(*dumps)
    assert code == 1
    assert "ids: id of row 321 is 65 instead of 64" in line
    assert f"clicks: label clicked of row 654 is [{other_clicks[654]}] instead of [{CLICKS[654]}]" in line
    assert "short: 900 rows instead of 1000" in line
    assert [(row["passed"], row["max_abs_diff"]) for row in rows[1:]] == [("False", "")] * 3


def test_dumps_that_cannot_be_compared_are_one_line(tmp_path: Path, gate: Gate) -> None:
    good = write(tmp_path / "good")
    for dumps, options, message in (
        ([tmp_path / "none"], (), "error: there is no dump at"),
        ([good], ("--max-metric-loss", "map=1"), "no metric is named map, there are map12, roc_auc, log_loss"),
        ([good], ("--max-metric-loss", "map12"), "'map12' is not NAME=VALUE, as in map12=1e-4"),
        ([good], ("--max-metric-loss", "map12=nan"), "'map12=nan' is not NAME=VALUE, as in map12=1e-4"),
        ([good], ("--max-metric-loss", "map12=1", "--max-metric-loss", "map12=2"), "map12: it has 2 limits, give one"),
        ([good], ("--if-defined", "map"), "--if-defined: no metric is named map, there are map12"),
        ([good], ("--atol", "nan"), "--atol must be a number of at least 0, not nan"),
        ([write(tmp_path / "other", output="probability")], (), "there is no such output, there are ['probability']"),
        ([], (), "the following arguments are required: --dump-dir"),
    ):
        code, line, rows = gate(*dumps, options=options)
        assert (code, rows) == (1, [])
        assert message in line


def test_a_table_that_cannot_be_written_is_told_before_a_dump_is_read(tmp_path: Path, gate: Gate) -> None:
    (tmp_path / "table.csv").symlink_to(tmp_path / "no_folder" / "table.csv")
    code, line, _ = gate(tmp_path / "no_dump", options=("--csv", str(tmp_path / "table.csv")))
    assert code == 1
    assert f"{tmp_path / 'table.csv'} can't be written: it is a link to" in line
