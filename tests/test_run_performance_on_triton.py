from __future__ import annotations

import re
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import ProcessError
from deployment_toolkit.hardware import gpu_names
from deployment_toolkit.process import child, run
from deployment_toolkit.results.performance import read_performance
from deployment_toolkit.triton_performance_runner.options import PerformanceOptions
from deployment_toolkit.triton_server.remote import TritonServer
from tests.shared_memory import left_by_measurements

SCRIPT = ROOT / "run_performance_on_triton.py"
QUICK = ["--measurement-mode", "time_windows", "--measurement-interval", "200", "--stability-percentage", "1000000"]
DATALOADER = textwrap.dedent(
    """
    import numpy as np

    def get_dataloader_fn(*, lowest_id: int):
        def batches():
            ids = np.arange(lowest_id, lowest_id + 48, dtype=np.int32).reshape(16, 3)
            yield np.arange(16), {"x1": np.zeros((16, 1), np.float32), "x2": ids}, {}
        return batches
    """
)


def arguments(server: TritonServer, result_path: Path, *more: str) -> list[str]:
    return [
        sys.executable, str(SCRIPT), "--model-name", "adder", "--server-url", server.http_url,
        "--result-path", str(result_path), *QUICK, *more,
    ]  # fmt: skip


def test_performance_commands_of_the_readme_run(
    adder_server: TritonServer, adder_repository: Path, tmp_path: Path
) -> None:
    offline, online = tmp_path / "offline.csv", tmp_path / "online.csv"
    common = ["--model-repository", str(adder_repository), "--performance-tool", "perf_analyzer", "--warmup"]
    more = [*common, "--input-data", "zero", "--evaluation-mode", "offline", "--batch-sizes", "1", "16"]
    completed = run(arguments(adder_server, offline, *more), log_path=tmp_path / "offline.txt")
    module = tmp_path / "rows.py"
    module.write_text(DATALOADER)
    more = ["--dataloader", str(module), "--lowest-id", "100", "--evaluation-mode", "online"]
    more += ["--batch-sizes", "8", "--concurrency", "2", "1"]
    run(arguments(adder_server, online, *more), log_path=tmp_path / "online.txt")
    assert [row["Batch"] for row in read_performance(offline)] == [1, 16]
    assert [row["Concurrency"] for row in read_performance(online)] == [1, 2]
    assert "| p99 latency (ms) |" in completed.stdout and "2 of 2" in completed.stderr.replace("2.00", "2")
    assert "DEBUG" not in completed.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lowest-id", "665", "--dataloader", "rows.py"], "id 666"),
        (["--dataloader", "rows.py"], "--lowest-id"),
        (["--dataloader", "rows.py", "--lowest-id", "1", "--input-data", "zero"], "give one of them"),
        (["--performance-tool", "model_analyzer"], "starts a server of its own, so it needs the repository"),
        (
            ["--performance-tool", "genai_perf"],
            "choose from 'perf_analyzer', 'model_analyzer'",
        ),
        (["--concurrency", "0"], "--concurrency needs whole numbers from 1 on"),
        (["--model-version", "9"], "has no version 9"),
    ],
)
def test_performance_command_errors_are_one_line(
    adder_server: TritonServer, tmp_path: Path, more: list[str], message: str
) -> None:
    (tmp_path / "rows.py").write_text(DATALOADER)
    more = [str(tmp_path / "rows.py") if item == "rows.py" else item for item in more]
    with pytest.raises(ProcessError) as raised:
        run(arguments(adder_server, tmp_path / "latency.csv", *more), log_path=tmp_path / "log.txt")
    errors = [line for line in raised.value.stderr.splitlines() if line.startswith("error: ")]
    assert raised.value.returncode == 1 and "Traceback" not in raised.value.stderr
    assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "latency.csv").exists()


def test_shared_memory_of_a_gpu_needs_a_gpu(adder_server: TritonServer, tmp_path: Path) -> None:
    if gpu_names():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ProcessError, match="--offline-mode cuda needs an NVIDIA GPU and this machine shows none"):
        run(arguments(adder_server, tmp_path / "latency.csv", "--offline-mode", "cuda"), log_path=tmp_path / "log.txt")
    assert not (tmp_path / "latency.log").exists()


def test_verbose_option_logs_the_commands(adder_server: TritonServer, tmp_path: Path) -> None:
    completed = run(arguments(adder_server, tmp_path / "latency.csv", "-v"), log_path=tmp_path / "log.txt")
    assert re.search(r"DEBUG performance running .*perf_analyzer -m adder -x 1 ", completed.stderr)


def test_performance_defaults_equal_those_of_the_original() -> None:
    """Defaults of the original's command line."""
    options = PerformanceOptions(model_name="WidenDeep", result_path=Path("latency.csv"))
    assert (options.server_url, options.model_version) == ("http://127.0.0.1:8000", "1")
    assert (options.input_data, options.input_shapes) == ("random", [])
    assert (options.batch_sizes, options.concurrency) == ([1], [1])
    assert (options.measurement_interval, options.measurement_request_count) == (5000, 50)
    assert options.output_shared_memory_size == 102400


def test_interrupted_measurement_keeps_its_results(adder_server: TritonServer, tmp_path: Path) -> None:
    result_path = tmp_path / "latency.csv"
    log_path = tmp_path / "log.txt"
    before = set(left_by_measurements("x1_", "x2_", "y"))
    more = ["--batch-sizes", *map(str, range(1, 41))]
    with child(arguments(adder_server, result_path, *more), stdout=log_path) as process:
        while not result_path.exists():
            assert process.wait(0.05) is None, log_path.read_text()
        process.stop(first=signal.SIGINT)
        assert process.poll() == 130, log_path.read_text()
    assert 1 <= len(read_performance(result_path)) < 40
    assert set(left_by_measurements("x1_", "x2_", "y")) <= before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latency.csv", "latency.log", "log.txt"]
