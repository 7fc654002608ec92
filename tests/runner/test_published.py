from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.errors import DataError
from deployment_toolkit.results.performance import BATCH, P99, THROUGHPUT
from runner.kept_run.published_results import RESULTS, read_published
from runner.published import PAGE, OwnRun, main, page

REPORTS = ROOT / "reports"


def test_published_rows_are_all_read() -> None:
    sweeps = read_published(REPORTS / RESULTS)
    assert sum(len(sweep.rows) for sweep in sweeps) == 328
    assert len(sweeps) == 16
    a100 = next(sweep for sweep in sweeps if "A100" in sweep.device and sweep.precision == "FP16")
    assert a100.mode is EvaluationMode.OFFLINE
    largest = a100.rows[-1]
    assert (largest[BATCH], largest[THROUGHPUT]) == (131072, 10354700.0)
    assert sweeps[0].rows[0][P99] == pytest.approx(2170)


def test_published_pictures_and_page_are_made(tmp_path: Path) -> None:
    shutil.copy(REPORTS / RESULTS, tmp_path)
    shutil.copytree(REPORTS / "cpu_2_cores", tmp_path / "cpu_2_cores")
    main(["--reports", str(tmp_path)])
    made = {path.name for path in tmp_path.glob("published/plots/*.png")}
    assert made == {"throughput_vs_batch.png", "latency_vs_batch.png", "latency_vs_concurrency.png"}
    assert made == {path.name for path in REPORTS.glob("published/plots/*.png")}
    text = (tmp_path / PAGE).read_text()
    assert "10,354,700" in text
    run = OwnRun.newest(tmp_path)
    assert run is not None
    for title, (offline, _) in run.experiments.items():
        assert title in text
        assert f"{max(row[THROUGHPUT] for row in offline):,.0f}" in text


def test_complete_run_is_preferred_in_the_comparison(
    tmp_path: Path,
) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(REPORTS / "cpu_2_cores", newer)
    task = yaml.safe_load((newer / "task.yaml").read_text())
    (newer / "task.yaml").write_text(yaml.safe_dump(task | {"started": "2999-01-01T00:00:00+00:00"}))
    for path in newer.glob("triton_performance_*_summary.csv"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.startswith("5,")))
    run = OwnRun.newest(tmp_path)
    assert run is not None
    assert [title.split(", ")[-1] for title in run.experiments][-1] == "openvino bf16"
    shutil.copytree(REPORTS / "cpu_2_cores", tmp_path / "older")
    both = OwnRun.newest(tmp_path)
    assert both is not None
    assert both.name == "older"


def test_kept_page_is_up_to_date() -> None:
    text = page(read_published(REPORTS / RESULTS), OwnRun.newest(REPORTS), REPORTS)
    assert (REPORTS / PAGE).read_text() == text


def test_broken_row_is_named(tmp_path: Path) -> None:
    text = (REPORTS / RESULTS).read_text().splitlines()
    (tmp_path / RESULTS).write_text("\n".join([*text[:3], text[3].replace("offline", "sideways")]))
    with pytest.raises(DataError, match="line 4 is not a published result"):
        read_published(tmp_path / RESULTS)
