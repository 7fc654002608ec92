"""A sweep that was killed goes on with the points that it lacks."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import ProcessError
from deployment_toolkit.process import child, run
from deployment_toolkit.results.performance import read_performance
from deployment_toolkit.triton_server.remote import TritonServer
from tests.runner.conftest import rows

BATCHES = ["1", "2", "3", "4"]


def command(server: TritonServer, repository: Path, result: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, str(ROOT / "run_performance_on_triton.py"), "--model-name", "adder"),
        *("--server-url", server.http_url, "--model-repository", str(repository), "--result-path", str(result)),
        *("--measurement-mode", "time_windows", "--stability-percentage", "1000000", *more),
    ]


@pytest.fixture(scope="module")
def killed_folder(adder_server: TritonServer, adder_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what a sweep into ``result.csv`` leaves whose process was killed after two points or more."""
    folder = tmp_path_factory.mktemp("killed")
    result, log = folder / "result.csv", folder / "log.txt"
    with child(_argv(adder_server, adder_repository, result), stdout=log) as process:
        while not (result.exists() and len(read_performance(result)) > 1):
            assert process.wait(0.02) is None, log.read_text()
        process.stop(first=signal.SIGKILL)
    assert 2 <= len(read_performance(result)) < len(BATCHES)
    return folder


def _argv(server: TritonServer, repository: Path, result: Path) -> list[str]:
    return command(server, repository, result, "--measurement-interval", "100", "--batch-sizes", *BATCHES)


@pytest.fixture
def killed_sweep(killed_folder: Path, adder_server: TritonServer, adder_repository: Path, tmp_path: Path) -> list[str]:
    """Command of the killed sweep, whose files are in the test's own folder."""
    shutil.copytree(killed_folder, tmp_path, dirs_exist_ok=True)
    return _argv(adder_server, adder_repository, tmp_path / "result.csv")


def unjudged(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Rows without the verdict that depends on the others."""
    return [row | {"Disturbed": ""} for row in rows]


def test_killed_sweep_goes_on(killed_sweep: list[str], tmp_path: Path) -> None:
    result, log = tmp_path / "result.csv", tmp_path / "log.txt"

    def resumed(*more: str) -> str:
        return run([*killed_sweep, "--resume", *more], log_path=log).stderr

    before = rows(result)
    assert f"{len(before)} of 4 points were measured before and are kept" in resumed()
    whole = rows(result)
    kept = [row for row in whole if row["Batch"] in {earlier["Batch"] for earlier in before}]
    assert [row["Batch"] for row in whole] == BATCHES and unjudged(kept) == unjudged(before)
    written = result.stat().st_mtime_ns
    assert "4 of 4 points were measured before" in resumed()
    assert rows(result) == whole
    assert "4 of 5 points were measured before" in resumed("--batch-sizes", *BATCHES, "7")
    assert unjudged(rows(result)[:4]) == unjudged(whole) and result.stat().st_mtime_ns > written

    note = result.with_suffix(".origin.json")
    noted = json.loads(note.read_text())
    noted["origin"]["host"]["CPU"] = "another"
    note.write_text(json.dumps(noted))
    with pytest.raises(ProcessError) as raised:
        resumed()
    told = raised.value.stderr.splitlines()[-1]
    assert told.startswith(f"error: --resume: {result} was measured on another host (CPU ")
    assert "in place of another" in told and unjudged(rows(result)[:4]) == unjudged(whole)


@pytest.mark.parametrize("change", ["options", "model", "result", "note"])
def test_points_of_something_else_are_measured_again(
    killed_sweep: list[str], adder_repository: Path, tmp_path: Path, change: str
) -> None:
    result, argv = tmp_path / "result.csv", [*killed_sweep, "--resume", "--batch-sizes", "1"]
    reason = f"it was made with other {change}"
    model = adder_repository / "adder" / "1" / "model.py"
    source = model.read_text()
    try:
        if change == "options":
            argv += ["--measurement-interval", "150"]
        elif change == "model":
            model.write_text(f"{source}# another\n")
        elif change == "note":
            result.with_suffix(".origin.json").unlink()
            reason = "nothing tells what it was measured with"
        else:
            first, line, *others = result.read_text().splitlines()
            result.write_text("\n".join([first, line.replace("yes", "no"), *others, ""]))
            reason = "it was changed after it was measured"
        before = rows(result)
        told = run(argv, log_path=tmp_path / "log.txt").stderr
    finally:
        model.write_text(source)
    assert f"{result} is measured again, since {reason}" in told
    assert "are kept" not in told
    after = rows(result)
    assert [row["Batch"] for row in after] == ["1"] and after[0] not in before
    assert rows(result.with_suffix(".earlier.csv")) == before
