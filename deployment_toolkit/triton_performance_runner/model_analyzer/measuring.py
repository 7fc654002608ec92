"""Measurement with Triton's Model Analyzer 1.58, in local mode: it starts the embedded server with the model
repository, loads the model and starts the measurement of every point, one after the other.

Model Analyzer's tables lack the median, the client's send and receive times and the settled mark. So the rows come from
the perf_analyzer that it starts and whose CSV it reads (``children``). Its automatic search of configurations is off:
the model is measured with its ``config.pbtxt``.

It is installed separately (``scripts/install.sh --model-analyzer``), in a virtual environment on top of this project's,
so that its packages stay out of this project's environment.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import PerformanceError, UsageError
from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.process import Child, child, environment, last_lines
from deployment_toolkit.results.performance import SETTLED, PerformanceRow
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.server_access.key import ServerKey
from deployment_toolkit.server_access.key_files import kept_key
from deployment_toolkit.server_access.past_proxies import past_proxies
from deployment_toolkit.server_access.ports import choose_free, port_options
from deployment_toolkit.server_access.url import Scheme, ServerUrl
from deployment_toolkit.triton_performance_runner.model_analyzer import children
from deployment_toolkit.triton_performance_runner.model_analyzer.job import GPUS, AnalyzerJob
from deployment_toolkit.triton_performance_runner.options import LoadPoint, PerformanceOptions
from deployment_toolkit.triton_performance_runner.plan.progress import SweepProgress
from deployment_toolkit.triton_performance_runner.plan.rounds import Measured
from deployment_toolkit.triton_performance_runner.plan.time_budget import TimeBudget
from deployment_toolkit.triton_performance_runner.repository_target import find_repository_target
from deployment_toolkit.triton_performance_runner.shared_memory import no_shared_memory_left
from deployment_toolkit.triton_performance_runner.target import Assignment, Target
from deployment_toolkit.triton_server.installation import Installation
from deployment_toolkit.users import unprivileged

logger = logging.getLogger("performance")

PYTHON = ROOT / ".venv-model-analyzer" / "bin" / "python"

_START = Path(children.__file__).with_name("start.py")
_HEADERS = "WIDE_DEEP_KEY_HEADERS"  # as in start.py
_POLL_S = 0.1
_END_S = 20.0  # for Model Analyzer to end by itself, then for its children to end
_EXIT_TIMEOUT_S = 1  # of the server, which otherwise waits longer for Model Analyzer's idle connections
_UNLIMITED = 10**9  # seconds, percent of a core: limits that are set elsewhere, or not wanted
_LOAD_FAILED = re.compile(
    r"^\[Model Analyzer\] Model \S+ load failed: (.*?)(?=^\[Model Analyzer\]|\Z)", re.DOTALL | re.MULTILINE
)
_PROTOCOLS = ("http", "grpc", "metrics")


def find_served_model(options: PerformanceOptions, access: AccessOptions) -> Target:
    """Model that Model Analyzer will serve. Raises UsageError if Model Analyzer is not installed or the options are
    about a server elsewhere, and the errors of ``find_repository_target``."""
    url = ServerUrl.parse(options.server_url)
    if url.secure or url.access.headers or access.given:
        told = ", ".join(access.given) or ("TLS" if url.secure else "a user with a password")
        raise UsageError(
            f"--performance-tool model_analyzer starts a server of its own on this host, where {told} has no meaning: "
            "leave it out, or use perf_analyzer"
        )
    if not PYTHON.is_file():
        raise UsageError(
            "--performance-tool model_analyzer needs Model Analyzer, which is not installed: run "
            "scripts/install.sh --model-analyzer"
        )
    return find_repository_target(options)


class ModelAnalyzer:
    """Measurement of a repository's model with Model Analyzer. No other measurement may run on this machine. The server
    at ``--server-url`` is not used."""

    def __init__(self, assignment: Assignment) -> None:
        self._options = assignment.options
        self._target = assignment.target
        self._data = assignment.data
        self._folder = assignment.folder
        self._env = environment(assignment.env, prepend={})

    def measure_all(
        self, points: Sequence[LoadPoint], budget: TimeBudget, progress: SweepProgress
    ) -> Generator[Measured, None, None]:
        """Yields the row of each point, in Model Analyzer's order: by batch, then by concurrency. Its repeats follow it
        at once; when the time budget is spent, the other points are left out. Raises PerformanceError if a measurement
        fails."""
        spec, installation = self._target.spec, Installation.find()
        assert self._options.model_repository is not None, "PerformanceOptions require one for this tool"
        user, reason = unprivileged([*installation.read_by_server, self._options.model_repository])
        logger.info("tritonserver: %s", reason)
        with self._options.log_path.open("a") as log:
            log.write(f"tritonserver: {reason}\n")
        if user is not None:
            self._folder.chmod(0o711)  # perf_analyzer, as nobody, has a folder in it
        ports = choose_free(dict.fromkeys(_PROTOCOLS))
        key, urls = ServerKey.new(), [ServerUrl(scheme, LOOPBACK, ports[scheme.value]) for scheme in Scheme]
        with (
            installation.command(installation.prefix(user)) as command,
            kept_key(key, urls),  # Model Analyzer's children find the key there
            no_shared_memory_left([item.name for item in spec.inputs], [item.name for item in spec.outputs]),
        ):
            job = self._write_job(command, ports)
            config = self._write_config(job, ports)
            argv: list[str | Path] = [PYTHON, "-I", _START, "profile", "-f", config]
            out, err = self._folder / "model_analyzer.out", self._folder / "model_analyzer.err"
            try:
                env = {**past_proxies(self._env), GPUS: ""}  # it would look for DCGM, for figures that no column has
                env[_HEADERS] = json.dumps({scheme.value: key.headers(scheme) for scheme in Scheme})
                with child(argv, env=env, stdout=out, stderr=err) as process, _nothing_left_of(process):
                    for position, point in enumerate(self._options.points, 1):
                        if position > 1 and not budget.left_s:
                            return  # which ends Model Analyzer
                        progress.begins(position, point, 1)
                        row = self._wait_for(point, process, job)
                        progress.has(row, "settled" if row[SETTLED] else "not settled")
                        yield Measured(point, row)
                    process.wait(_END_S)
            finally:
                with self._options.log_path.open("a") as log:
                    log.write(f"$ {shlex.join(map(str, argv))}\n{out.read_text()}\n{err.read_text()}\n")

    def _wait_for(self, point: LoadPoint, process: Child, job: AnalyzerJob) -> PerformanceRow:
        """Waits for a point's row. The time limit applies until the measurement begins, which has its own limit."""
        started = time.monotonic()
        while True:
            ended = process.wait(_POLL_S) is not None
            row = job.outcome(point)
            if row is not None:
                return row
            refusal = _LOAD_FAILED.search(process.output()[0])
            if refusal is not None:
                raise PerformanceError(
                    f"Model Analyzer's server could not load model {self._target.name}: {last_lines(refusal[1])}; log: "
                    f"{self._options.log_path}"
                )
            if ended:
                raise PerformanceError(
                    f"Model Analyzer ended before it measured {point}: {last_lines(''.join(process.output()))}; log: "
                    f"{self._options.log_path}"
                )
            if time.monotonic() - started > self._options.timeout and not job.has_begun(point):
                raise PerformanceError(
                    f"Model Analyzer did not come to measure {point} in {self._options.timeout} s: raise --timeout or "
                    f"look at its log, {self._options.log_path}"
                )

    def _write_job(self, command: Sequence[str], ports: Mapping[str, int]) -> AnalyzerJob:
        assert self._options.model_repository is not None, "PerformanceOptions require one for this tool"
        scheme = self._target.url.scheme
        served = [f"--model-repository={self._options.model_repository.resolve()}", "--model-control-mode=explicit"]
        served.append(f"--exit-timeout-secs={_EXIT_TIMEOUT_S}")
        job = AnalyzerJob(
            folder=self._folder,
            options=self._options,
            target=replace(self._target, url=ServerUrl(scheme, LOOPBACK, ports[scheme.value])),
            data=self._data,
            server_command=[*command, *served, *port_options(ports)],
            cuda_visible_devices=self._env.get(GPUS),
            client=os.getpid(),
        )
        job.write()
        return job

    def _write_config(self, job: AnalyzerJob, ports: Mapping[str, int]) -> Path:
        """Writes Model Analyzer's configuration. Source of the keys: Model Analyzer's documentation, docs/config.md."""
        options, folder = self._options, self._folder
        config = {
            "model_repository": str(_describe_repository(options, folder / "repository")),
            "profile_models": {
                options.model_name: {"perf_analyzer_flags": {"latency-report-file": str(job.report_path)}}
            },
            "run_config_search_disable": True,
            "batch_sizes": sorted(set(options.batch_sizes)),
            "concurrency": sorted(set(options.concurrency)),
            "triton_launch_mode": "local",
            "triton_server_path": str(_write_program(job, children.SERVER)),
            "perf_analyzer_path": str(_write_program(job, children.CLIENT)),
            "client_protocol": self._target.url.scheme.value,
            "triton_http_endpoint": f"{LOOPBACK}:{ports['http']}",
            "triton_grpc_endpoint": f"{LOOPBACK}:{ports['grpc']}",
            "triton_metrics_url": f"http://{LOOPBACK}:{ports['metrics']}/metrics",
            "client_max_retries": options.timeout,  # of one second
            "perf_analyzer_timeout": _UNLIMITED,
            "perf_analyzer_cpu_util": _UNLIMITED,
            "perf_analyzer_max_auto_adjusts": 1,
            "duration_seconds": 0,  # of watching the idle server
            "skip_summary_reports": True,
            "skip_detailed_reports": True,
            "output_model_repository_path": str(folder / "models"),
            "checkpoint_directory": str(folder / "checkpoints"),
            "export_path": str(folder / "export"),
        }
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        return path


def _describe_repository(options: PerformanceOptions, folder: Path) -> Path:
    """Repository with only the model's configuration, since Model Analyzer copies every model that it sees."""
    assert options.model_repository is not None, "PerformanceOptions require one for this tool"
    model = folder / options.model_name
    model.mkdir(parents=True)
    shutil.copyfile(options.model_repository / options.model_name / "config.pbtxt", model / "config.pbtxt")
    return folder


def _write_program(job: AnalyzerJob, name: str) -> Path:
    command = [sys.executable, "-P", "-m", children.__name__, name, str(job.folder)]
    path = job.folder / name
    start = f"unset {_HEADERS}\nPYTHONPATH={shlex.quote(str(ROOT))}"
    path.write_text(f'#!/bin/sh\n{start} exec {shlex.join(command)} "$@"\n')
    path.chmod(0o700)
    return path


@contextlib.contextmanager
def _nothing_left_of(process: Child) -> Iterator[None]:
    """Ends Model Analyzer's children, which are in separate process groups and stay when Model Analyzer is ended."""
    try:
        yield
    finally:
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
        process.stop()
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
        _, alive = psutil.wait_procs(family, timeout=_END_S)
        for member in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
