from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import UsageError
from runner.keep_report import main

KEPT = ROOT / "reports" / "cpu_2_cores_ensemble"


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_keep_report_copies_readable_files_without_host_paths(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "20261124T025616Z"
    shutil.copytree(KEPT, run)
    for name in (
        "logs/export.log",
        "experiment_1/replay.sh",
        "experiment_1/search/01.csv",
        "experiment_1/metrics_x.csv",
        "experiment_1/loadgen/1/mlperf_log_summary.txt",
    ):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("left out")
    for name in ("triton_performance_capacity_summary.csv", "plots/capacity.png"):
        (run / name).write_text("kept")
    report = run / "report.md"
    told = f"see {ROOT}/datasets and [it](experiment_1/search/config.pbtxt)."
    report.write_text(
        f"{report.read_text()}{told} Each experiment's `replay.sh` repeats its commands."
        " LoadGen's logs are in `experiment_1/loadgen`."
    )
    main([str(run), "mine", "--reports-dir", str(tmp_path)])
    expected = _files(KEPT) | {"triton_performance_capacity_summary.csv": b"kept", "plots/capacity.png": b"kept"}
    expected["report.md"] += b"see datasets and [it](experiment_1/config.pbtxt)."
    found = _files(tmp_path / "mine")
    page = found.pop("report.html").decode()
    assert found == {name: content for name, content in expected.items() if name != "report.html"}
    assert "run mine</h1>" in page and 'href="experiment_1/config.pbtxt"' in page
    assert str(ROOT) not in page and str(tmp_path) not in page and "replay.sh" not in page
    main([str(tmp_path / "mine"), "mine", "--reports-dir", str(tmp_path)])
    assert _files(tmp_path / "mine") == {**found, "report.html": page.encode()}, "what was kept is kept as it is"


def test_keep_report_refuses_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no run"):
        main([str(tmp_path), "mine", "--reports-dir", str(tmp_path)])
    with pytest.raises(UsageError, match="use lower case letters"):
        main([str(KEPT), "../mine", "--reports-dir", str(tmp_path)])


def test_reports_hold_at_most_150_files() -> None:
    assert len(_files(ROOT / "reports")) <= 150
