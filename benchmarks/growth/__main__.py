"""Measures the growth of time and memory, and writes tables and pictures.

Run from the repository's root: ``python -m benchmarks.growth``. Points that were measured before on this machine with
the same settings are kept; ``--fresh`` measures them again.

  rows       preprocessing, loader, dumps and metrics against rows of data, each in a separate process
  tables     load time, memory and throughput of the served network against the number of ids in its embedding tables
  instances  the same against the number of instances, in the C++ and in the Python host
  in-flight  throughput, p99 and memory of a server against concurrent requests times their rows
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.growth.pictures import draw
from benchmarks.growth.point import Axis, GrowthJob, Points
from benchmarks.growth.rows import WORKS, rows_jobs
from benchmarks.growth.served import GrowthServed, in_flight_jobs, instances_jobs, tables_jobs
from benchmarks.growth.tables import SHOWN, section
from deployment_toolkit.core import Host
from deployment_toolkit.errors import DeploymentError, UsageError, require_options_at_least
from deployment_toolkit.files.atomic import replace_when_complete, write_text
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.packages import installed_versions
from deployment_toolkit.progress import progress_bar
from deployment_toolkit.triton_performance_runner.program import program_version
from runner.serving import read_system_info
from widedeep.features.options import read_feature_spec

logger = logging.getLogger("growth")

CSV_FILE, PAGE_FILE = "growth.csv", "growth.md"
_PACKAGES = ("nvtabular", "pandas", "pyarrow", "numpy", "openvino", "nvidia-pytriton", "tritonclient")


@dataclass(frozen=True)
class GrowthOptions:
    """Options of the command."""

    axes: list[Axis] = option("axes of growth", list(Axis), choices=list(Axis), nargs="+", type=Axis)
    output_dir: Path = option("folder of the results", Path("growth"))
    fresh: bool = option("measure all points again", False)
    rows: list[int] = option("rows of data", [10_000, 100_000, 1_000_000, 10_000_000])
    works: list[str] = option("kinds of work on the rows", list(WORKS), choices=list(WORKS), nargs="+", type=str)
    repeats: int = option("repetitions of all work except preprocessing; the median counts", 3)
    batch_size: int = option("rows of a batch, of the loader and of offline requests", 4096)
    factors: list[int] = option("times the cardinalities", [1, 2, 4])
    instances: list[int] = option("numbers of instances", [1, 2, 4, 8])
    instances_batch: int = option("rows of a request to the instances", 1024)
    request_rows: list[int] = option("rows of an online request", [1, 32, 256])
    concurrency: list[int] = option("online requests at a time", [1, 8, 64, 256])
    host: Host = option("host of the model; the axis of instances has both", Host.CPP, choices=[Host.CPP, Host.PYTHON])
    model: Path | None = option("OpenVINO model to serve; default: an untrained network of the full size", None)
    hidden_units: list[int] = option("hidden layers of untrained networks", [1024] * 5)
    feature_spec: Path | None = option("features of untrained networks (YAML); default: the Outbrain ones", None)
    workspace: Path = option("folder of untrained networks", Path("runner_workspace/growth"))
    requests: int = option("requests of a window of perf_analyzer at least", 17)

    def __post_init__(self) -> None:
        for name in ("rows", "factors", "instances", "request_rows", "concurrency", "hidden_units"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise UsageError(f"--{name.replace('_', '-')} needs whole numbers from 1 on, not {getattr(self, name)}")
        require_options_at_least(self, ("repeats", "batch_size", "instances_batch", "requests"), 1)


def main(argv: list[str]) -> int:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, GrowthOptions)
    options = from_args(GrowthOptions, parser.parse_args(argv))
    options.output_dir.mkdir(parents=True, exist_ok=True)
    machine = read_system_info().summary
    points = Points(options.output_dir / CSV_FILE, machine, fresh=options.fresh)
    jobs = {axis: _jobs(axis, options) for axis in dict.fromkeys(options.axes)}
    failures = _measure([job for axis in jobs for job in jobs[axis]], points)
    command = shlex.join(["python", "-m", "benchmarks.growth", *argv])
    page = _write(options.output_dir, jobs, points, f"{machine}; {_versions()}; made by `{command}`", failures)
    print(page)
    logger.info("written to %s", options.output_dir)
    return int(bool(failures))


def _jobs(axis: Axis, options: GrowthOptions) -> list[GrowthJob]:
    hidden_units = tuple(options.hidden_units)
    model = None if options.model is None else options.model.resolve()
    spec = read_feature_spec(options.feature_spec)
    served = GrowthServed(
        model,
        options.workspace.resolve(),
        hidden_units,
        spec,
        measurement_requests=options.requests,
        repeats=options.repeats,
    )
    match axis:
        case Axis.ROWS:
            return rows_jobs(options.rows, options.works, options.batch_size, options.repeats)
        case Axis.TABLES:
            return tables_jobs(served, options.host, options.factors, options.batch_size)
        case Axis.INSTANCES:
            return instances_jobs(served, options.instances, options.instances_batch)
        case Axis.IN_FLIGHT:
            return in_flight_jobs(served, options.host, options.request_rows, options.concurrency)


def _measure(jobs: Sequence[GrowthJob], points: Points) -> list[str]:
    """Measures the missing points and returns the failures; each point is written to the CSV when it is measured."""
    failures = []
    todo = [job for job in jobs if points.find(job) is None]
    if len(todo) < len(jobs):
        logger.info("%d of %d points are kept from an earlier run", len(jobs) - len(todo), len(jobs))
    with progress_bar("growth", len(todo), " points") as progress:
        for job in todo:
            logger.info("%s: %s at %s", job.axis, job.subject, f"{job.size:,}")
            try:
                points.add(job, job.measure(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
            except DeploymentError as error:
                failures.append(f"{job.axis}, {job.subject} at {job.size:,}: {error}")
                logger.error("%s", failures[-1])
            progress.update()
    return failures


def _write(
    folder: Path, jobs: Mapping[Axis, Sequence[GrowthJob]], points: Points, provenance: str, failures: Sequence[str]
) -> str:
    """Writes the page and a picture per axis; returns the page."""
    parts = ["# Growth", "", f"{provenance}.", ""]
    for axis, planned in jobs.items():
        measured = points.of(planned)
        if measured:
            picture = folder / f"{axis}.png"
            shown = SHOWN[axis]
            png = draw(
                shown.title, shown.size, shown.panels, measured, f"{provenance.split(';')[0]}; {measured[-1].date}"
            )
            with replace_when_complete(picture) as beside:
                beside.write_bytes(png)
            parts += [section(axis, measured), f"![{shown.title}]({picture.name})", ""]
    parts += [f"- failed: {failure}" for failure in failures]
    page = "\n".join(parts)
    write_text(folder / PAGE_FILE, f"{page}\n")
    return page


def _versions() -> str:
    versions = installed_versions(_PACKAGES) | program_version()
    return ", ".join(f"{name} {version}" for name, version in versions.items())


if __name__ == "__main__":
    run_entry_point(main)
