"""Measurement with Triton's perf_analyzer.

A run is three windows at one (batch, concurrency). Its stability limit is set so high that any result counts as stable;
so it always ends after three windows and always reports, which perf_analyzer does not do for an unstable result. This
module decides if the measurement settled, by perf_analyzer's rule, from the throughput and the average latency that it
prints for each window. If not, the run is repeated with windows twice as long, after all points have been measured
(``plan.rounds``). A point that never settles is reported as such, with the values of the last run.

A count window of perf_analyzer lasts whole seconds, because it counts once per second. So three windows of 17 requests
take no longer than shorter ones and give a 99th percentile of 50 requests or more. All that is said here of
perf_analyzer is so in its releases 2.51 and 2.60.
"""

from __future__ import annotations

import dataclasses
import logging
import shlex
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.disturbance.watch import Watch
from deployment_toolkit.errors import PerformanceError, ProcessError
from deployment_toolkit.process import Child, environment, last_lines, run
from deployment_toolkit.results.disturbed import what_disturbed
from deployment_toolkit.results.performance import DISTURBED, PerformanceRow
from deployment_toolkit.server_access.key import REFUSED, REMEDY
from deployment_toolkit.server_access.key_files import find_key
from deployment_toolkit.server_access.past_proxies import past_proxies
from deployment_toolkit.server_access.private_options import build_library, with_private_options
from deployment_toolkit.triton_inference_runner.refusal import is_refusal
from deployment_toolkit.triton_performance_runner.client_access import header_options, server_options
from deployment_toolkit.triton_performance_runner.client_user import client_of, hand_over
from deployment_toolkit.triton_performance_runner.options import LoadPoint, MeasurementMode
from deployment_toolkit.triton_performance_runner.perf_data import ChildWatch
from deployment_toolkit.triton_performance_runner.perf_report import WINDOWS, Report, Window, passes_in
from deployment_toolkit.triton_performance_runner.plan.progress import SweepProgress
from deployment_toolkit.triton_performance_runner.plan.rounds import Measured, rounds
from deployment_toolkit.triton_performance_runner.plan.time_budget import TimeBudget
from deployment_toolkit.triton_performance_runner.program import explain_start, find_program, link_libraries
from deployment_toolkit.triton_performance_runner.refused_load import RefusedLoad
from deployment_toolkit.triton_performance_runner.shared_memory import (
    no_shared_memory_left,
    region_pattern,
    region_remedy,
)
from deployment_toolkit.triton_performance_runner.target import Assignment

logger = logging.getLogger("performance")

_ANY_STABILITY = "1000000"  # percent
_CLIENT_THREADS = 4
_WARMUP_WINDOW_MS = 200
_POLL_S = 0.1
_LOOK_S = 0.5
# perf_analyzer's exit codes for: no stable measurement; no request ended inside a window.
_NOTHING_SETTLED = (2, 3)


class PerfAnalyzer:
    """Measurement of a model with perf_analyzer. No other measurement may run on this machine."""

    def __init__(self, assignment: Assignment) -> None:
        options, self._folder = assignment.options, assignment.folder
        self._options = options
        self._target = assignment.target
        self._url = assignment.target.url
        self._data = assignment.data
        env = environment(assignment.env, prepend={"LD_LIBRARY_PATH": [link_libraries(assignment.folder)]})
        self._env = past_proxies(env, self._url.host) if self._url.is_loopback else env
        self._refused: set[LoadPoint] = set()
        self._warm: set[int] = set()
        self._progress = SweepProgress.unseen(options.retries + 1)
        self._disturbance = Watch(self._url, assignment.client)
        private = header_options(self._url.access.headers)
        found = find_key(self._url, assignment.env) if options.evaluation_mode is EvaluationMode.OFFLINE else None
        if found is not None:  # registering shared memory needs the key
            self._url, key = found
            private += key.client_options(self._url.scheme)
        program, given = find_program(), Path(options.input_data)
        reads = [program, *([given] if given.exists() else []), *self._url.access.tls_files.values()]
        if private:
            self._env = with_private_options(self._env, private)
            reads.append(build_library())
        self._user, prefix = client_of(options.client, self._folder, reads)
        self._program = [*prefix, str(program)]
        self._window = Window(options.measurement_mode, options.measurement_request_count, options.measurement_interval)

    def measure_all(
        self, points: Sequence[LoadPoint], budget: TimeBudget, progress: SweepProgress
    ) -> Generator[Measured, None, None]:
        """Yields the row of a point after every attempt at it; raises the errors of ``measure``."""
        self._progress = progress
        return rounds(points, self._options, budget, progress, self._attempt_warm)

    def warm_up(self) -> None:
        """Sends requests of every batch size for a moment and drops the results. An error here is ignored, because the
        measurement raises it again."""
        for batch in sorted(set(self._options.batch_sizes)):
            self._warm_up(batch)

    def measure(self, point: LoadPoint) -> PerformanceRow:
        """Row of a point, marked if it never settled. Raises PerformanceError if nothing could be measured."""
        *_, last = rounds([point], self._options, TimeBudget(None), self._progress, self._attempt)
        return last.row

    def _attempt_warm(self, point: LoadPoint, window: Window) -> Report | None:
        """An attempt, after a warm-up if it is asked for and this batch size has had none."""
        if self._options.warmup and point.batch not in self._warm:
            self._progress.warms_up(point.batch)
            self._warm_up(point.batch)
        return self._attempt(point, window)

    def _warm_up(self, batch: int) -> None:
        self._warm.add(batch)
        point = LoadPoint(batch, max(self._options.concurrency))
        try:
            self._run(point, Window(MeasurementMode.TIME_WINDOWS, 0, _WARMUP_WINDOW_MS))
        except ProcessError as error:
            if error.returncode is None:
                raise PerformanceError(self._timed_out(point)) from error

    def _attempt(self, point: LoadPoint, window: Window) -> Report | None:
        """Report of one run, and of what disturbed it; None if the windows are too short for a result."""
        with self._disturbance.measurement() as seen:
            report = self._report(point, window)
        if report is None:
            return None
        cells = seen.disturbance.cells
        if cells[DISTURBED]:
            logger.warning("%s was disturbed, which its row tells: %s", point, what_disturbed(cells))
        return dataclasses.replace(report, row={**report.row, **cells})

    def _report(self, point: LoadPoint, window: Window) -> Report | None:
        """Report of one run; None if the windows are too short for a result."""
        if point in self._refused:
            return self._attempt_by_own_client(point, window)
        try:
            output = self._run(point, window, told=True)
        except ProcessError as error:
            if error.returncode in _NOTHING_SETTLED:
                return None
            if is_refusal(error.stdout + error.stderr) and self._options.evaluation_mode is EvaluationMode.ONLINE:
                logger.warning("the server refuses requests of %s, so it is measured by this project's client", point)
                self._refused.add(point)
                return self._attempt_by_own_client(point, window)
            raise PerformanceError(self._explain(point, error)) from error
        if not self._csv_path.exists():
            return None
        self._csv_path.replace(self.report_path)
        return Report.read(self.report_path, output, point)

    def _attempt_by_own_client(self, point: LoadPoint, window: Window) -> Report:
        self.report_path.unlink(missing_ok=True)
        target = dataclasses.replace(self._target, url=self._url)
        return RefusedLoad(target, self._data.requests(point), self._options.timeout).measure(point, window)

    @property
    def report_path(self) -> Path:
        """Path of perf_analyzer's CSV from the last run that wrote one; no such file after a measurement by this
        project's client."""
        return self._folder / "measured.csv"

    @property
    def _csv_path(self) -> Path:
        return self._folder / "report.csv"

    def _run(self, point: LoadPoint, window: Window, *, told: bool = False) -> str:
        """Runs perf_analyzer and returns its stdout; its report, if it writes one, is at ``_csv_path``. ``told``: its
        windows are shown as progress."""
        threads = min(point.concurrency, _CLIENT_THREADS)
        data, fill = self._data.prepare(point, threads, self._folder, self._user.uid)
        self._csv_path.unlink(missing_ok=True)
        hand_over(self._folder, self._user)
        streams = self._folder / "streams"
        argv = [*self._arguments(point, threads), *window.arguments, "--input-data", data]
        spec = self._target.spec
        logger.debug("running %s", shlex.join(argv))
        try:
            inputs, outputs = ([item.name for item in items] for items in (spec.inputs, spec.outputs))
            with no_shared_memory_left(inputs, outputs, owner=self._user.uid):
                completed = run(
                    argv,
                    env=self._env,
                    timeout_s=self._options.timeout,
                    log_path=streams,
                    watch=self._watch(fill, told=told),
                    poll_s=_POLL_S,
                )
        finally:
            self._keep_streams(argv, streams)
        return completed.stdout

    def _watch(self, fill: ChildWatch | None, *, told: bool) -> ChildWatch:
        """Watcher of a run that calls ``fill`` and shows the progress."""
        looked = 0.0

        def watch(process: Child) -> None:
            nonlocal looked
            if fill is not None:
                fill(process)
            if told and time.monotonic() - looked >= _LOOK_S:
                looked = time.monotonic()
                self._progress.goes_on([rate for rate, _ in passes_in(process.output()[0])])

        return watch

    def _arguments(self, point: LoadPoint, threads: int) -> list[str]:
        target, options = self._target, self._options
        version = ["-x", target.version] if target.version else []
        argv = [*self._program, "-m", target.name, *version]
        argv += server_options(self._url)
        argv += ["-b", str(point.batch), "--concurrency-range", str(point.concurrency)]
        if point.concurrency > threads:  # otherwise perf_analyzer has a thread per request in flight, without a limit
            argv += ["--async", "--max-threads", str(threads)]
        if options.evaluation_mode is EvaluationMode.OFFLINE:
            row_bytes = [item.row_bytes for item in target.spec.outputs if -1 not in item.shape]
            size_bytes = max(options.output_shared_memory_size, *row_bytes, 0)
            argv += ["--shared-memory", str(options.offline_mode), "--output-shared-memory-size", str(size_bytes)]
        for tensor in target.spec.inputs:
            if target.max_batch_size == 0 or tensor.name in target.free_inputs:
                shape = tensor.shape if target.max_batch_size else (1, *tensor.shape)
                argv += ["--shape", f"{tensor.name}:{','.join(map(str, shape))}"]
        argv += ["--stability-percentage", _ANY_STABILITY, "--max-trials", str(WINDOWS)]
        return [*argv, "-v", "--verbose-csv", "-f", str(self._csv_path)]

    def _keep_streams(self, argv: list[str], streams: Path) -> None:
        with self._options.log_path.open("a") as log:
            log.write(f"$ {shlex.join(argv)}\n")
            for path in (streams, streams.with_name(f"{streams.name}.err")):
                if path.exists():
                    log.write(path.read_text(errors="replace") + "\n")
                    path.unlink()

    def _explain(self, point: LoadPoint, error: ProcessError) -> str:
        if error.returncode is None and (error.stdout or error.stderr):
            return self._timed_out(point)
        if (not_started := explain_start(error.stderr)) is not None:
            return not_started
        reason = last_lines(error.stderr or error.stdout or str(error))
        if REFUSED in reason:
            reason = f"{reason}: {REMEDY}"
        spec = self._target.spec
        names = region_pattern([item.name for item in spec.inputs], [item.name for item in spec.outputs])
        remedy = region_remedy(reason, names, self._user.uid)
        reason = f"{reason}: {remedy}" if remedy else reason
        return f"perf_analyzer could not measure {point}: {reason}; log: {self._options.log_path}"

    def _timed_out(self, point: LoadPoint) -> str:
        return (
            f"perf_analyzer did not measure {point} in {self._options.timeout} s: raise --timeout or look at the "
            f"server; log: {self._options.log_path}"
        )
