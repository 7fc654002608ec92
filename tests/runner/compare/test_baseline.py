from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

import runner.pipeline
from deployment_toolkit.errors import UsageError
from deployment_toolkit.results.performance import THROUGHPUT, WINDOW_RATES, PerformanceRow, write_performance
from runner.__main__ import main
from runner.compare.baseline import read_baseline
from runner.config.baseline import Baseline
from runner.config.run import load_config
from runner.experiment import Experiment
from runner.kept_run import read_kept_run
from runner.pipeline import run_pipeline
from runner.stages.network import Stage
from runner.workspace import create_workspace
from tests.measured_runs import performance_row, write_run
from tests.runner.conftest import Plain

OFFLINE = "triton_performance_offline.csv"


ROWS = [
    performance_row((1000.0, 1010.0, 990.0), (1000.0, 1001.0, 999.0)),
    performance_row((3000.0, 3030.0, 2970.0), (9000.0, 9001.0, 8999.0), Batch=64),
]


def scaled(row: PerformanceRow, factor: float) -> PerformanceRow:
    """The row of a server that is so much faster."""
    rates = tuple(factor * rate for rate in row[WINDOW_RATES])
    return {**row, THROUGHPUT: factor * row[THROUGHPUT], WINDOW_RATES: rates}


@pytest.mark.parametrize(("factor", "code"), [(2.0, 3), (0.5, 0)])
def test_run_is_compared_with_its_baseline_at_its_end(
    factor: float,
    code: int,
    small_config: Plain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run without preparation, whose only stage gives it these rows."""

    def mock_stage(experiment: Experiment, _: Any) -> None:
        write_performance(experiment.folders.results / OFFLINE, ROWS)

    monkeypatch.setattr(runner.pipeline, "preparation_stages", lambda *_: [])
    monkeypatch.setattr(runner.pipeline, "stages_of", lambda _: [Stage("performance offline", mock_stage)])
    base = write_run(tmp_path / "base", [scaled(row, factor) for row in ROWS])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(small_config | {"baseline": {"run": str(base)}}))
    config, workspace, stream = (
        load_config(tmp_path / "config.yaml"),
        create_workspace(tmp_path / "workspace"),
        io.StringIO(),
    )
    assert config.baseline == Baseline(str(base), "5%")
    found = run_pipeline(
        config, workspace, "a test", {}, stream, refused={}, keep_models=False, baseline=read_kept_run(base)
    )
    assert found == code, stream.getvalue()
    count = len(ROWS)
    told = f"{count} of {2 * count} judged figures got worse by more than 5 %" if code else "none got worse"
    assert f"against base: {told if code else f'Of {2 * count} judged figures {told}'}" in stream.getvalue()
    assert told in (workspace.run / "comparison" / "comparison.md").read_text()
    better, worse = (0, count) if code else (count, 0)
    answer = f"<small>against base: {better} figures better, {worse} worse"
    assert answer in (workspace.run / "report.html").read_text()
    assert ("inferences/s: " in stream.getvalue()) == bool(code)


def test_baseline_is_read_before_the_run_begins(
    small_config: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    workspace = tmp_path / "workspace"

    def mock_pipeline(*_: Any, **options: Any) -> int:
        given.append(options["baseline"])
        return 3

    monkeypatch.setattr(runner.pipeline, "run_pipeline", mock_pipeline)

    def start(baseline: Plain) -> int:
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(small_config | {"baseline": baseline}))
        return main(["--config-path", str(tmp_path / "config.yaml"), "--workspace-path", str(workspace)])

    with pytest.raises(UsageError, match="'latest' is no run: give the folder of a run"):
        start({"run": "latest"})
    assert not workspace.exists()
    write_run(workspace / "runs" / "first", [performance_row((1.0, 1.1, 1.2), (1.0, 1.1, 1.2))])
    (workspace / "runs" / "latest").symlink_to("first")
    assert start({"run": "latest", "max_regression": "7.5%"}) == 3
    assert given[0].name == "first" and (workspace / "runs" / "latest").resolve().name != "first"
    with pytest.raises(UsageError, match=r"config.yaml:\d+: baseline: 'much' is no percentage"):
        start({"run": "first", "max_regression": "much"})
    with pytest.raises(UsageError, match="hold no windows of its measurements"):
        read_baseline(Baseline("cpu_2_cores"), workspace)
