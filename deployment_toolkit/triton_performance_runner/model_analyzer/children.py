"""Programs that Model Analyzer starts in place of tritonserver and perf_analyzer.

``server`` becomes the embedded server with its libraries, which Model Analyzer can't set. It ignores Model Analyzer's
arguments, because they
- break at spaces in paths,
- make the server complete configurations that are complete already,
- hide the GPUs from the server.

``client`` measures a point with the same code as ``--performance-tool perf_analyzer``, so both tools send the same
requests and use the same rule for settled. It passes perf_analyzer's CSV to Model Analyzer.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from deployment_toolkit.errors import DeploymentError, PerformanceError, ServerError
from deployment_toolkit.options.params import make_parser, run_entry_point
from deployment_toolkit.process import become, die_with_parent
from deployment_toolkit.server_access.key_files import find_key
from deployment_toolkit.server_access.private_options import with_private_options
from deployment_toolkit.triton_performance_runner.model_analyzer.job import AnalyzerJob
from deployment_toolkit.triton_performance_runner.options import LoadPoint
from deployment_toolkit.triton_performance_runner.perf_analyzer import PerfAnalyzer
from deployment_toolkit.triton_performance_runner.target import Assignment
from deployment_toolkit.triton_server.installation import Installation
from deployment_toolkit.triton_server.starting import require_restricted

SERVER = "server"
CLIENT = "client"


def main(argv: list[str]) -> int | None:
    program, folder, *arguments = argv
    job = AnalyzerJob.read(Path(folder))
    if program == SERVER:
        serve(job)
    return measure(job, arguments)


def serve(job: AnalyzerJob) -> NoReturn:
    """Becomes the server. Raises ServerError if its key is gone because the measuring process has ended."""
    found = find_key(job.target.url)
    if found is None:
        raise ServerError(f"the key of the server at {job.target.url} is gone: start the measurement again")
    env = Installation.find().environment(job.environment())
    become(job.server_command, env=with_private_options(env, found[1].server_options))


def measure(job: AnalyzerJob, arguments: Sequence[str]) -> int:
    """Measures the point in perf_analyzer's ``arguments``; returns 0, or 1 if the measurement failed."""
    die_with_parent()
    parser = make_parser(__doc__)
    parser.add_argument("-b", dest="batch", type=int, required=True)
    parser.add_argument("--concurrency-range", dest="concurrency", type=int, required=True)
    named, _ = parser.parse_known_args(arguments)
    point = LoadPoint(named.batch, named.concurrency)
    first = not any(map(job.has_begun, job.options.points))
    job.begin(point)
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        try:
            if first:
                require_restricted(str(job.target.url))
            made = Assignment(job.options, job.target, job.data, Path(folder), job.environment(), job.client)
            meter = PerfAnalyzer(made)
            if first and job.options.warmup:
                meter.warm_up()
            row = meter.measure(point)
            if not meter.report_path.is_file():
                raise PerformanceError(
                    f"the server refuses requests of {point}, which Model Analyzer can't measure: use "
                    "--performance-tool perf_analyzer, or deploy the model without limits of its queue"
                )
        except DeploymentError as error:
            job.fail(point, str(error))
            return 1
        shutil.copyfile(meter.report_path, job.report_path)
    job.succeed(point, row)
    return 0


if __name__ == "__main__":
    run_entry_point(main)
