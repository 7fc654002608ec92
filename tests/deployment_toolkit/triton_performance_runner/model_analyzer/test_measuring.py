from __future__ import annotations

import contextlib
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import PerformanceTool
from deployment_toolkit.errors import DeploymentError, ModelError, PerformanceError, ProcessError, UsageError
from deployment_toolkit.process import child, run
from deployment_toolkit.results.left_out import read_left_out
from deployment_toolkit.results.performance import (
    LATENCY_PARTS,
    OTHER_CORES,
    PERFORMANCE_COLUMNS,
    THROUGHPUT,
    read_performance,
)
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.triton_performance_runner.model_analyzer import children, measuring
from deployment_toolkit.triton_performance_runner.model_analyzer.job import AnalyzerJob
from deployment_toolkit.triton_performance_runner.options import LoadPoint, MeasurementMode, PerformanceOptions
from deployment_toolkit.triton_performance_runner.perf_data import InputData
from deployment_toolkit.triton_performance_runner.shared_memory import machine_to_itself
from deployment_toolkit.triton_performance_runner.sweep import measure
from deployment_toolkit.triton_performance_runner.target import find_target
from deployment_toolkit.triton_server.remote import TritonServer
from tests.shared_memory import left_by_measurements

SCRIPT = ROOT / "run_performance_on_triton.py"
NO_SERVER = "http://127.0.0.1:1"  # nothing listens there, and nothing has to
ALIKE = 10.0  # two measurements of the same on a busy machine
TINY_CONFIG = """
{backend}
max_batch_size: 4
{policy}
input [ {{ name: "amount" data_type: {dtype} dims: [ {size} ] }} ]
{outputs}
"""


@pytest.fixture
def options(tmp_path: Path, sampler_repository: Path) -> Callable[..., PerformanceOptions]:
    """Options of a quick measurement of ``sampler`` by Model Analyzer, which accepts any time window as stable."""

    def make(**changes: Any) -> PerformanceOptions:
        defaults = {
            "model_name": "sampler",
            "server_url": NO_SERVER,
            "performance_tool": PerformanceTool.MODEL_ANALYZER,
            "model_repository": sampler_repository,
            "measurement_mode": MeasurementMode.TIME_WINDOWS,
            "measurement_interval": 200,
            "stability_percentage": 1e6,
        }
        return PerformanceOptions(**{**defaults, "result_path": tmp_path / "results" / "latency.csv", **changes})

    return make


def test_performance_tools_give_the_same_columns_and_similar_values(
    options: Callable[..., PerformanceOptions], sampler_server: TritonServer, sampler_repository: Path, tmp_path: Path
) -> None:
    ours = options()
    theirs = options(
        result_path=tmp_path / "latency.csv",
        performance_tool=PerformanceTool.PERF_ANALYZER,
        server_url=sampler_server.http_url,
        batch_sizes=[16],
    )
    seen = sampler_repository / "sampler" / "requests.txt"
    before = len(seen.read_text().splitlines()) if seen.exists() else 0
    (row,) = measure(options(batch_sizes=[16], warmup=True))
    requests = [line.split() for line in seen.read_text().splitlines()[before:]]
    (expected,) = measure(theirs)
    header = ",".join(column.name for column in PERFORMANCE_COLUMNS)
    assert ours.result_path.read_text().splitlines()[0] == header == theirs.result_path.read_text().splitlines()[0]
    assert read_performance(ours.result_path)[0].keys() == read_performance(theirs.result_path)[0].keys()
    for column in (THROUGHPUT, "p50 latency", "avg latency", "Server Compute Infer"):
        assert expected[column] / ALIKE < row[column] < expected[column] * ALIKE
    assert sum(row[part] for part in LATENCY_PARTS) == pytest.approx(row["avg latency"], rel=0.1, abs=20)
    assert {len(request) for request in requests} == {16}
    assert len({item for request in requests for item in request}) > 500  # rows of its own for each request
    assert row[OTHER_CORES] is not None, "Model Analyzer's server is not found"
    log = ours.log_path.read_text()
    assert log.count("--shared-memory system") == 2  # to warm up, and to measure
    assert "Profile complete. Profiled 1 configurations for models: ['sampler']" in log
    assert sampler_server.is_ready()
    assert not left_by_measurements("shopitem", "amount", "score")


def test_time_budget_ends_model_analyzer_between_two_points(options: Callable[..., PerformanceOptions]) -> None:
    measured = measure(options(batch_sizes=[1, 16], time_budget_s=0.001))
    path = options().result_path
    assert [row["Batch"] for row in read_performance(path)] == [1] == [row["Batch"] for row in measured]
    assert read_left_out(path).words == "1 of 2 points not measured (batch 16 at concurrency 1)"
    assert "-b 16" not in options().log_path.read_text()
    assert not left_by_measurements("shopitem", "amount", "score")


def test_client_error_names_the_reason(
    options: Callable[..., PerformanceOptions], sampler_server: TritonServer, tmp_path: Path
) -> None:
    path = tmp_path / "bad.json"
    path.write_text('{"data": [{"shop/item": [1000], "amount": [0.0, 1.0]}]}')
    refused = options(input_data=str(path), result_path=tmp_path / "latency.csv", server_url=sampler_server.http_url)
    target = find_target(refused, AccessOptions())
    job = AnalyzerJob(
        folder=tmp_path,
        options=refused,
        target=target,
        data=InputData(refused, target.spec, target.url.scheme, None),
        server_command=(),
        cuda_visible_devices=None,
    )
    job.write()
    argv = [sys.executable, "-m", children.__name__, "client", str(tmp_path), "-m", "sampler", "-b", "1"]
    # The client is called without ``measure``, and its shared memory has the names of any measurement of this model.
    with machine_to_itself(), pytest.raises(ProcessError) as raised:
        run([*argv, "-f", str(job.report_path), "--concurrency-range", "1"], log_path=tmp_path / "printed.txt")
    assert raised.value.returncode == 1
    with pytest.raises(PerformanceError, match=r"could not measure batch 1, concurrency 1: .*item outside the table"):
        job.outcome(LoadPoint(1, 1))
    assert job.has_begun(LoadPoint(1, 1)) and not job.report_path.exists()


def test_interrupted_model_analyzer_leaves_nothing(options: Callable[..., PerformanceOptions], tmp_path: Path) -> None:
    wanted = options()
    argv = [sys.executable, SCRIPT, "--model-name", "sampler", "--result-path", wanted.result_path]
    argv += ["--performance-tool", "model_analyzer", "--model-repository", wanted.model_repository]
    log_path = tmp_path / "printed.txt"
    with child([str(part) for part in [*argv, "--measurement-request-count", "100000"]], stdout=log_path) as process:
        script = psutil.Process(process.pid)
        while not _is_measuring(script):
            assert process.wait(0.05) is None, log_path.read_text()
        family = script.children(recursive=True)
        temporary = Path(next(part for part in family[0].cmdline() if part.endswith("config.yaml"))).parent
        assert {"tritonserver", "perf_analyzer"} <= {member.name() for member in family} and temporary.exists()
        process.stop(first=signal.SIGINT, grace_s=30)
        assert process.poll() == 130, log_path.read_text()
    assert not [member for member in family if member.is_running()]
    assert not temporary.exists()


def _is_measuring(script: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):  # it also starts processes that end at once
        return any(member.name() == "perf_analyzer" for member in script.children(recursive=True))
    return False


def test_model_that_cannot_be_loaded_is_reported(options: Callable[..., PerformanceOptions], tmp_path: Path) -> None:
    repository = _tiny_repository(tmp_path)
    (repository / "tiny" / "1" / "model.py").write_text("raise RuntimeError('no table of items')")
    with pytest.raises(PerformanceError, match=r"server could not load model tiny: .*no table of items"):
        measure(options(model_name="tiny", model_repository=repository))


def test_timeout_before_a_load_point_is_reported(options: Callable[..., PerformanceOptions]) -> None:
    with pytest.raises(
        PerformanceError, match=r"did not come to measure batch 1, concurrency 1 in 1 s: raise --timeout"
    ):
        measure(options(timeout=1))


def _tiny_repository(folder: Path, **changes: Any) -> Path:
    """A repository with two versions of a model ``tiny``, which has little more than the configuration."""
    defaults = {
        "backend": 'backend: "python"',
        "policy": "version_policy { specific { versions: 1 } }",
        "dtype": "TYPE_FP32",
        "size": 2,
        "outputs": 'output [ { name: "score" data_type: TYPE_FP32 dims: [ 1 ] } ]',
    }
    for version in ("1", "2"):
        (folder / "repository" / "tiny" / version).mkdir(parents=True)
    path = folder / "repository" / "tiny" / "config.pbtxt"
    path.write_text(TINY_CONFIG.format(**{**defaults, **changes}))
    return folder / "repository"


@pytest.mark.parametrize(
    ("changes", "config", "error", "message"),
    [
        ({"model_repository": None}, {}, UsageError, "give --model-repository"),
        ({"model_repository": Path("/nowhere")}, {}, UsageError, r"has no tiny/config.pbtxt: it holds no model"),
        ({"server_url": "https://a:8000"}, {}, UsageError, "model_analyzer starts a server of its own .* TLS has no"),
        ({"server_url": "http://me:hidden@a"}, {}, UsageError, "a user with a password has no meaning"),
        ({"model_name": "tinny"}, {}, UsageError, r"has no tinny/config.pbtxt: it holds tiny"),
        ({"model_version": "2"}, {}, UsageError, r"--model-version 2 would not be served: .* version 1"),
        ({}, {"policy": ""}, UsageError, r"--model-version 1 would not be served: .* version 2"),
        ({"batch_sizes": [5]}, {}, UsageError, "takes at most 4 rows"),
        ({}, {"size": -1}, UsageError, r"input amount has the free shape \[-1\]"),
        ({}, {"dtype": "TYPE_BF16"}, UsageError, "amount is of type TYPE_BF16"),
        ({}, {"dtype": "TYPE_INT32"}, UsageError, "which values input amount"),
        ({}, {"outputs": ""}, UsageError, "does not name the model's inputs and outputs"),
        (
            {},
            {"backend": 'backend: "onnxruntime"'},
            UsageError,
            r"backend onnxruntime; .* use --performance-tool perf_",
        ),
        ({}, {"backend": 'platform: "ensemble" ensemble_scheduling { }'}, UsageError, "tiny is an ensemble"),
        ({}, {"backend": "nonsense"}, ModelError, "is not a model configuration"),
    ],
)
def test_model_that_cannot_be_measured_is_refused_at_once(
    options: Callable[..., PerformanceOptions],
    tmp_path: Path,
    changes: dict[str, Any],
    config: dict[str, Any],
    error: type[DeploymentError],
    message: str,
) -> None:
    repository = _tiny_repository(tmp_path, **config)
    with pytest.raises(error, match=message):
        measure(options(**{"model_name": "tiny", "model_repository": repository, **changes}))
    assert not options().result_path.parent.exists()


def test_version_is_found_if_all_versions_are_served(
    options: Callable[..., PerformanceOptions], tmp_path: Path
) -> None:
    repository = _tiny_repository(tmp_path, policy="version_policy { all { } }")
    find = partial(measuring.find_served_model, access=AccessOptions())
    assert find(options(model_name="tiny", model_repository=repository, model_version="1")).version == "1"
    assert find(options(model_name="tiny", model_repository=repository, model_version="2")).version == "2"
    shutil.rmtree(repository / "tiny" / "2")
    with pytest.raises(UsageError, match="version 1$"):
        find(options(model_name="tiny", model_repository=repository, model_version="2"))


def test_missing_model_analyzer_names_the_install_command(
    options: Callable[..., PerformanceOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "PYTHON", Path("/nowhere/bin/python"))
    with pytest.raises(UsageError, match=r"is not installed: run scripts/install.sh --model-analyzer$"):
        measure(options())
