from __future__ import annotations

import csv
import dataclasses
import math
import sys
from pathlib import Path

import pytest

from benchmarks.growth.point import Axis, GrowthJob, GrowthMeasurement, GrowthPoint, Points, exponent
from benchmarks.growth.served import scaled
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import ProcessError, UsageError
from deployment_toolkit.process import Completed, environment, run
from widedeep.features.outbrain import outbrain_spec
from widedeep.features.spec import Feature, FeatureSpec

SPEC = FeatureSpec(
    numerical=(Feature("price", "float32"),),
    onehot=(Feature("ad", "int32", 9_000),),
    multihot=(Feature("topics", "int32", 1_000, 3),),
    label=Feature("clicked", "int32"),
    group_id=None,
)
ROWS = ["--axes", "rows", "--rows", "3000", "30000", "--repeats", "1", "--works", "loader", "dumps", "metrics"]


def growth(folder: Path, *arguments: str) -> Completed:
    argv = [sys.executable, "-m", "benchmarks.growth", "--output-dir", str(folder / "out"), *arguments]
    return run(argv, env=environment(prepend={"PYTHONPATH": [ROOT]}), log_path=folder / "growth.log")


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "growth.csv").open() as file:
        return list(csv.DictReader(file))


def test_points_over_rows_are_measured_once_and_shown(tmp_path: Path) -> None:
    printed = growth(tmp_path, *ROWS)
    points = table(tmp_path)
    assert [(point["subject"], int(point["size"])) for point in points] == [
        (work, rows) for rows in (3000, 30000) for work in ("loader", "dumps", "metrics")
    ]
    for point in points:
        assert float(point["rows_per_s"]) == pytest.approx(int(point["size"]) / float(point["seconds"]))
        assert 20 < float(point["memory_mib"]) < 400
    assert (tmp_path / "out" / "rows.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out" / "growth.md").read_text()
    assert page.strip() == printed.stdout.strip()
    assert "python -m benchmarks.growth" in page and "pyarrow 26" in page and "cores" in page
    assert page.count("| metrics |") == 3  # two sizes and the exponents
    again = growth(tmp_path, *ROWS)
    assert "6 of 6 points are kept" in again.stderr
    assert table(tmp_path) == points


def test_network_with_larger_tables_is_made_and_served(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.to_yaml())
    options = ["--axes", "tables", "--factors", "30", "--hidden-units", "4", "--batch-size", "16", "--requests", "10"]
    options += ["--repeats", "1"]
    options += ["--feature-spec", str(tmp_path / "spec.yaml"), "--workspace", str(tmp_path / "networks")]
    growth(tmp_path, *options)
    (point,) = table(tmp_path)
    assert int(point["size"]) == 300_000
    weights = next((tmp_path / "networks").glob("*/model.openvino/model.bin"))
    assert weights.stat().st_size > 300_000 * 64 * 4  # embeddings of 64 floats
    assert float(point["memory_mib"]) > 300_000 * 64 * 4 / 2**20
    assert float(point["rows_per_s"]) > 0 and float(point["p99_ms"]) > 0


def test_failed_point_is_reported_and_the_rest_is_measured(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("no model")
    options = ["--instances", "1", "--model", str(tmp_path / "model.xml"), "--rows", "100", "--works", "dumps"]
    with pytest.raises(ProcessError) as failure:
        growth(tmp_path, "--axes", "instances", "rows", *options)
    assert failure.value.returncode == 1
    page = (tmp_path / "out" / "growth.md").read_text()
    assert "- failed: instances, cpp host at 1: " in page
    assert "| dumps | 100 |" in page


def test_points_of_another_machine_or_setting_are_not_reused(tmp_path: Path) -> None:
    path = tmp_path / "growth.csv"
    job = GrowthJob(Axis.ROWS, "loader", 10, "batch 4096", lambda: GrowthMeasurement(1, 2, 3))
    Points(path, "here", fresh=False).add(job, GrowthMeasurement(1.5, 2, 3), "today")
    found = Points(path, "here", fresh=False).find(job)
    assert found is not None and found.seconds == 1.5 and math.isnan(found.p99_ms)
    assert Points(path, "here", fresh=False).find(dataclasses.replace(job, settings="batch 1")) is None
    assert Points(path, "there", fresh=False).find(job) is None
    assert Points(path, "here", fresh=True).find(job) is None
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="--fresh"):
        Points(path, "here", fresh=False)


def test_exponent_is_that_of_the_largest_decades() -> None:
    def point(size: int, seconds: float) -> GrowthPoint:
        return GrowthPoint("rows", "loader", size, "", "", "", seconds, 1, 1, math.nan)

    points = [point(10, 5.0), point(10_000, 2.0), point(100_000, 20.0), point(1_000_000, 200.0)]
    assert exponent(points, lambda item: item.seconds) == pytest.approx(1)
    assert exponent(points, lambda item: item.memory_mib) == pytest.approx(0)
    assert math.isnan(exponent(points[:1], lambda item: item.seconds))


def test_scaled_specification_changes_cardinalities_only() -> None:
    spec, larger = outbrain_spec(), scaled(outbrain_spec(), 2)
    assert [item.cardinality for item in larger.onehot] == [2 * (item.cardinality or 0) for item in spec.onehot]
    assert [item.max_hotness for item in larger.multihot] == [item.max_hotness for item in spec.multihot]
    assert larger.numerical == spec.numerical
