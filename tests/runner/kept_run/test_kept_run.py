from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.results.capacity import OFFERED, capacity_cells
from deployment_toolkit.results.performance import BATCH, CONCURRENCY, THROUGHPUT, WINDOW_RATES
from deployment_toolkit.results.tables import read_csv, write_csv
from runner.kept_run import ENSEMBLE, find_run, metrics_of, read_kept_run
from tests.measured_runs import capacity_row

REPORTS = ROOT / "reports"
OFFLINE = "triton_performance_offline_summary.csv"


@pytest.mark.parametrize("name", sorted(path.parent.name for path in REPORTS.glob("*/task.yaml")))
def test_every_kept_report_is_read_whole(name: str) -> None:
    run = read_kept_run(REPORTS / name)
    assert run.name == name and run.command and run.started and "cores" in run.host
    for mode in (EvaluationMode.OFFLINE, EvaluationMode.ONLINE):
        written = read_csv(REPORTS / name / f"triton_performance_{mode}_summary.csv")
        rates = [row[THROUGHPUT] for experiment in run.experiments for row in experiment.performance(mode)]
        assert sorted(rates) == sorted(float(line[THROUGHPUT]) for line in written)
    dumps = [row for experiment in run.experiments for row in experiment.correctness]
    assert len(dumps) == len(read_csv(REPORTS / name / "correctness_summary.csv"))
    assert {metric for row in dumps for metric in metrics_of(row)} >= {
        "rmse" if name == "cpu_2_cores_dcn" else "roc_auc"
    }
    assert sum(len(run.stages_of(experiment.number)) for experiment in run.experiments if not experiment.role) + len(
        run.stages_of(None)
    ) == len(run.stages)


def test_older_reports_have_no_windows_and_fewer_parameters() -> None:
    run = read_kept_run(REPORTS / "cpu_2_cores")
    first = run.experiments[0]
    assert first.title == "1: tf-savedmodel fp32" and "signature" not in first.parameters
    assert [row[BATCH] for row in first.offline] == [1, 1024, 2048, 3072, 4096]
    assert all(row[WINDOW_RATES] == () for row in first.offline)
    assert run.host.startswith("AMD EPYC, 2 cores, 24 GiB")
    assert run.config["measurement_steps_offline"] == 4


def test_ensemble_is_apart_from_its_network() -> None:
    network, ensemble = read_kept_run(REPORTS / "cpu_2_cores_ensemble").experiments
    assert (network.role, ensemble.role) == ("", ENSEMBLE)
    assert ensemble.title.endswith(f", {ensemble.parameters['model']}") and network.number == ensemble.number == 1


def test_run_is_found_by_folder_by_name_and_as_latest(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "20261124T025616Z"
    shutil.copytree(REPORTS / "cpu_2_cores", run)
    (tmp_path / "runs" / "latest").symlink_to(run.name)
    for text in (str(run), run.name, "latest"):
        found = find_run(text, tmp_path, REPORTS)
        assert (found.name, found.folder) == (run.name, run.resolve())
    assert find_run("cpu_2_cores", tmp_path, REPORTS).folder == REPORTS / "cpu_2_cores"
    for wrong in ("", "no_such_run", str(tmp_path)):
        with pytest.raises(UsageError, match=r"is no run: give the folder .*cpu_2_cores_dcn"):
            find_run(wrong, tmp_path, REPORTS)
    with pytest.raises(UsageError, match=r"is no run \(it has no task.yaml\)"):
        read_kept_run(tmp_path)


def test_published_figures_are_a_run_for_each_host(tmp_path: Path) -> None:
    run = find_run("published:a30", tmp_path, REPORTS)
    tensorflow, tensorrt = run.experiments
    assert run.name == "published:NVIDIA A30" and run.host == "GPU NVIDIA A30" and not run.stages
    assert tensorflow.title == "6: tf-savedmodel fp32" and tensorrt.title == "10: trt fp16"
    assert (tensorflow.offline[0][BATCH], tensorflow.offline[0][THROUGHPUT]) == (1, 517.0)
    assert {row[CONCURRENCY] for row in tensorrt.online} >= {8, 256}
    for wrong in ("published", "published:", "published:NVIDIA", "published:H100"):
        with pytest.raises(UsageError, match=r"choose from NVIDIA A30, NVIDIA DGX-1 \(1x V100 32GB\)"):
            find_run(wrong, tmp_path, REPORTS)


def test_experiment_without_figures_is_told_with_its_stages(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(REPORTS / "cpu_2_cores", run)
    for path in run.glob("*_summary.csv"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.startswith("5,")))
    last = read_kept_run(run).experiments[-1]
    assert last.title == "5: openvino int8" and not last.offline and not last.correctness


def test_damaged_run_is_told_in_a_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(REPORTS / "cpu_2_cores", run)
    text = (run / OFFLINE).read_text()
    (run / OFFLINE).write_text(text.replace("\n1,", "\nfirst,", 1))
    with pytest.raises(DataError, match="a row without the number of its experiment"):
        read_kept_run(run)
    (run / OFFLINE).write_text(text)
    task = yaml.safe_load((run / "task.yaml").read_text())
    task["stages"][3]["seconds"] = "long"
    (run / "task.yaml").write_text(yaml.safe_dump(task))
    with pytest.raises(DataError, match="the stage export has no number of seconds"):
        read_kept_run(run)


def test_capacity_is_given_to_its_network_and_to_its_ensemble(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(REPORTS / "cpu_2_cores_ensemble", run)
    models = [experiment.parameters["model"] for experiment in read_kept_run(run).experiments]
    lines = [
        {"experiment": "1", "model": model, "format": "openvino", "precision": "int8", **capacity_cells(row)}
        for model, rate in zip(models, (900.0, 40.0), strict=True)
        for row in (capacity_row(offered=rate), capacity_row(offered=rate / 2))
    ]
    write_csv(run / "triton_performance_capacity_summary.csv", lines)
    network, ensemble = read_kept_run(run).experiments
    assert [row[OFFERED] for row in network.capacity] == [450, 900]
    assert [row[OFFERED] for row in ensemble.capacity] == [20, 40]
    assert not read_kept_run(REPORTS / "cpu_2_cores_ensemble").experiments[0].capacity
