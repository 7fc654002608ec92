"""Measures the bars: the best served format against TensorFlow, its own engine and the machine's limits.

Run from the repository's root, after a run of the runner that kept its models:

  ./runner/start_CPU.sh --keep-models
  python -m benchmarks.bars

Every experiment that passed the correctness gate is deployed with its configuration, all on one embedded server. With
several formats in addition to TensorFlow, a scouting round finds the best. A failed measurement is shown as failed and
makes the exit code 1; a missed bar is a valid result.
"""

from __future__ import annotations

import dataclasses
import logging
import shlex
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.bars.bar import BarOutcome
from benchmarks.bars.bars import BARS
from benchmarks.bars.contestants import Contestant, of_paths, of_run
from benchmarks.bars.measuring import Measuring
from benchmarks.bars.output import Provenance, bars_table, write_results
from benchmarks.bars.session import BarSession
from benchmarks.peers.load import find_wrk
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Host
from deployment_toolkit.errors import UsageError, require_options_at_least
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.packages import installed_versions
from deployment_toolkit.triton_performance_runner.program import program_version
from runner.serving import RunConfig, load_config, read_system_info

logger = logging.getLogger("bars")

_LIGHT = {"tensorflow-single", "onnx-single", "packed-rate", "packed-latency", "packed-rows"}
_PACKAGES = ("tensorflow-cpu", "onnxruntime", "openvino", "nvidia-pytriton", "tritonclient", "numpy")


def _number_and_path(text: str) -> tuple[int, Path]:
    number, equals, path = text.partition("=")
    if not (equals and number.isdigit() and path):
        raise UsageError(f"--models {text}: write NUMBER=PATH, with an experiment's number")
    return int(number), Path(path)


@dataclass(frozen=True)
class BarOptions:
    """Options of the command."""

    config_path: Path = option("the runner's configuration", ROOT / "runner" / "config_CPU.yaml")
    run: Path = option("folder of a run of it that kept its models", Path("runner_workspace/runs/latest"))
    models: list[tuple[int, Path]] = option(
        "instead of a run: the converted model of each experiment by its number; you vouch for their answers",
        [],
        type=_number_and_path,
        choices=None,
        nargs="+",
        metavar="NUMBER=PATH",
    )
    output_dir: Path = option("folder of the results", Path("bars"))
    bars: list[str] = option("only these", list(BARS), choices=list(BARS), nargs="+", type=str)
    rounds: int = option("rounds of measurements", 3)
    batches: list[int] = option("batch sizes offline in addition to 1", [2048, 4096])
    online_batch: int = option("rows of an online request", 32)
    concurrency: int = option("concurrent requests online", 64)
    seconds: float = option("seconds that a rate in process is measured", 3.0)
    pipeline_rows: int = option("rows that the pipeline is timed with", 500_000)
    host: Host | None = option(
        "host of the models in the server, except TensorFlow's; default: as configured",
        None,
        choices=[Host.PYTHON, Host.CPP],
        type=Host,
    )
    wrk: str = option("the light client's program", "wrk")
    retries: int = option("repetitions by perf_analyzer of a measurement that did not settle", 0)

    def __post_init__(self) -> None:
        require_options_at_least(self, ("rounds", "online_batch", "concurrency", "pipeline_rows"), 1)
        if not self.batches or min(self.batches) < 2:
            raise UsageError(f"--batches needs sizes from 2 on, not {self.batches}")
        if self.seconds <= 0:
            raise UsageError(f"--seconds must be above 0, not {self.seconds:g}")


def main(argv: list[str]) -> int:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, BarOptions)
    options = from_args(BarOptions, parser.parse_args(argv))
    options.output_dir.mkdir(parents=True, exist_ok=True)  # an error of it comes before the work
    config = load_config(options.config_path)
    measurement = dataclasses.replace(config.measurement, retries=options.retries)
    config = dataclasses.replace(config, measurement=measurement)
    contestants = of_paths(config, dict(options.models)) if options.models else of_run(config, options.run)
    require_fitting(contestants, options)
    if options.host is not None:
        contestants = [item if item.is_baseline else item.with_host(options.host) for item in contestants]
    wrk = find_wrk(options.wrk) if _LIGHT & {*options.bars} else options.wrk
    with tempfile.TemporaryDirectory(prefix="bars_") as folder:
        session = BarSession(
            _measuring(config, [*contestants, *_variants(contestants)], options, Path(folder), wrk),
            [bar for key, bar in BARS.items() if key in options.bars],
            options.batches,
        )
        cast, outcomes = session.measure(options.rounds)
    provenance = _provenance(argv, options.rounds)
    write_results(options.output_dir, outcomes, session.samples, cast, provenance)
    print(bars_table(outcomes))
    print(f"\nwritten to {options.output_dir}")
    return exit_code(outcomes)


def exit_code(outcomes: list[BarOutcome]) -> int:
    """Exit code: 0 if every bar was measured, met or not."""
    return int(any(item.failure for item in outcomes))


def require_fitting(contestants: list[Contestant], options: BarOptions) -> None:
    """Raises UsageError if a batch is larger than a model takes."""
    for item in contestants:
        largest = max(*options.batches, options.online_batch)
        if largest > item.parameters.max_batch_size:
            raise UsageError(f"{item.title} takes batches up to {item.parameters.max_batch_size}, not {largest}")


def _variants(contestants: list[Contestant]) -> list[Contestant]:
    """The contestants that only some bars compare; they are deployed when one of these is measured."""
    return [variant for item in contestants for variant in (item.in_python(), item.packed())]


def _measuring(
    config: RunConfig, contestants: list[Contestant], options: BarOptions, folder: Path, wrk: str
) -> Measuring:
    return Measuring(
        config=config,
        contestants={item.title: item for item in contestants},
        folder=folder,
        online_batch=options.online_batch,
        concurrency=options.concurrency,
        seconds=options.seconds,
        pipeline_rows=options.pipeline_rows,
        wrk=wrk,
    )


def _provenance(argv: list[str], rounds: int) -> Provenance:
    return Provenance(
        machine=read_system_info().summary,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=shlex.join(["python", "-m", "benchmarks.bars", *(part.removeprefix(f"{ROOT}/") for part in argv)]),
        versions=installed_versions(_PACKAGES) | program_version(),
        rounds=rounds,
    )


if __name__ == "__main__":
    run_entry_point(main)
