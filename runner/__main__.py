"""Runs every experiment of a configuration on this host and writes a report."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import require_free_space
from deployment_toolkit.options.params import (
    OneLineParser,
    add_dataclass,
    from_args,
    make_parser,
    option,
    run_entry_point,
)
from deployment_toolkit.redaction import shown_command
from deployment_toolkit.server_access.access_options import AccessOptions
from runner.config.options import LaunchOptions
from runner.config.problems import refusals
from runner.config.run import RunConfig, load_config
from runner.config.search import Search
from runner.networks.quick_look import quick_look
from runner.workspace import Workspace

if TYPE_CHECKING:
    from runner.resuming.finding import RunToResume

logger = logging.getLogger("runner")

_WORKSPACE = Path("runner_workspace")
MODEL_BYTES = 370 * 2**20  # the full-size network as a file


@dataclass(frozen=True)
class RunnerOptions:
    """Options of the command."""

    config_path: Path = option("configuration (YAML)")
    devices: list[int] = option(
        "GPUs to use; a CPU run takes 0", [0], aliases=("--device",), type=int, nargs="+", unique=True
    )
    workspace_path: Path = option("folder of checkpoints, models and results", _WORKSPACE)
    keep_models: bool = option("keep this run's models and dumps", False)
    experiments: list[int] = option(
        "only these experiments, by their numbers in the configuration",
        [],
        type=int,
        nargs="+",
        metavar="N",
        unique=True,
    )
    search: list[int] | None = option(
        "first find the instances, threads, preferred batch and queue delay that serve best, for these experiments, or "
        "for all that run if no number is given; default: as configured",
        None,
        metavar="N",
        unique=True,
    )
    time_budget_minutes: float | None = option(
        "time for everything after the preparation, shared by the experiments; what people need first is measured "
        "first, and the report says what was left out; 0: no limit; default: as configured",
        None,
    )
    quick: bool = option(
        "a quick look: two experiments, three measurements each, and a short training where the checkpoint is missing",
        False,
    )
    resume: str | None = option(
        "go on with a run that was stopped, killed or failed, by its name or folder; without one the newest that did "
        "not end well. The options of its command count again, and those given now over them",
        None,
        nargs="?",
        const="",
        metavar="RUN",
    )
    print_launch_modes: bool = option(
        "run nothing: print a line per launch mode, with the numbers of its experiments", False
    )

    def __post_init__(self) -> None:
        if self.quick and self.search is not None:
            raise UsageError("--quick and --search: a search takes minutes for each experiment, leave one of them out")

    def over(self, config: RunConfig) -> RunConfig:
        """Configuration with the search and the time budget that these options request."""
        if self.time_budget_minutes is not None:
            config = dataclasses.replace(config, time_budget_minutes=self.time_budget_minutes)
        if self.search is None:
            return config
        asked = dataclasses.replace(config.search or Search(), experiments=self.search or None)
        return dataclasses.replace(config, search=asked)


def main(argv: list[str]) -> int:
    if "--print-launch-modes" in argv:
        logging.disable(logging.INFO)  # the run itself logs the keys that it ignores
    command = shown_command(["python", "-m", "runner", *(part.removeprefix(f"{ROOT}/") for part in argv)])
    asked, others = _resume_asked(argv)
    if asked is None:
        return _run(argv, command)
    from runner.resuming.finding import find_run

    resumed = find_run(asked, _workspace_path(others))
    if resumed is None:
        return 0
    resumed.require_same_place()
    return _run(resumed.arguments(others), command, resumed)


def _run(argv: list[str], command: str, resumed: RunToResume | None = None) -> int:
    """Runs the experiments of a command line, ``argv``, as a new run or the next part of one."""
    config, numbers, options = read_command_line(argv)
    changes: list[str] = []  # of a quick look
    if options.quick:
        look = quick_look(config, options.experiments, Workspace(options.workspace_path.resolve(), ""))
        config, numbers, changes = look.config, look.numbers, look.changes
    if options.print_launch_modes:
        _print_launch_modes(config, numbers)
        return 0
    # Drawing and containers take half a second to import, which only a run needs.
    from runner.compare.baseline import read_baseline
    from runner.killed_runs import clear_killed_runs
    from runner.pipeline import run_pipeline
    from runner.resuming.parts import begun
    from runner.servers import require_launchable

    refused = refusals(config, numbers)
    require_launchable(config, options.devices, [number for number in numbers if number not in refused])
    for reason in refused.values():
        logger.warning("%s; the other experiments run", reason)
    baseline = None if config.baseline is None else read_baseline(config.baseline, options.workspace_path)
    clear_killed_runs(options.workspace_path, resumed.workspace.run_name if resumed else "")
    require_free_space(options.workspace_path, _needed_bytes(len(numbers)), "this run")
    with begun(resumed, options.workspace_path, argv, config, keeps_models=options.keep_models) as part:
        return run_pipeline(
            config,
            part.workspace,
            command,
            _child_env(),
            sys.stdout,
            numbers=numbers,
            refused=refused,
            devices=options.devices,
            keep_models=options.keep_models,
            baseline=baseline,
            quick=changes,
            ledger=part.ledger,
            earlier=part.earlier,
        )


def _resume_asked(argv: list[str]) -> tuple[str | None, list[str]]:
    """Run that ``--resume`` names, empty if it names none, None without the option; and the other arguments. Raises
    UsageError with an option that a run that goes on can't take."""
    if not any(part == "--resume" or part.startswith("--resume=") for part in argv):
        return None, argv
    front = OneLineParser(add_help=False, allow_abbrev=False)
    front.add_argument("--resume", nargs="?", const="")
    given, others = front.parse_known_args(argv)
    if "--experiments" in others:
        raise UsageError("--resume goes on with the experiments that the run has: leave --experiments out")
    return given.resume, others


def _workspace_path(argv: list[str]) -> Path:
    front = OneLineParser(add_help=False, allow_abbrev=False)
    front.add_argument("--workspace-path", type=Path, default=_WORKSPACE)
    return Path(front.parse_known_args(argv)[0].workspace_path)


def read_command_line(argv: list[str]) -> tuple[RunConfig, list[int], RunnerOptions]:
    """Reads the command line: the configuration with the options applied, the numbers of the experiments to run, and
    the options. Raises UsageError if the options are invalid or contradict each other."""
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, RunnerOptions)
    add_dataclass(parser, LaunchOptions)
    add_dataclass(parser, AccessOptions)
    args = parser.parse_args(argv)
    options, launch = from_args(RunnerOptions, args), from_args(LaunchOptions, args)
    access = from_args(AccessOptions, args)
    config = load_config(
        options.config_path, options.experiments, lambda config: options.over(launch.over(config, access))
    )
    numbers = sorted(set(options.experiments)) or list(config.experiment_numbers)
    for number in options.search or []:
        if number not in numbers:
            raise UsageError(f"--search {number}: this run has the experiments {', '.join(map(str, numbers))}")
    return config, numbers, options


def _print_launch_modes(config: RunConfig, numbers: Sequence[int]) -> None:
    by_mode: dict[str, list[str]] = {}
    for number in numbers:
        by_mode.setdefault(config.launch_mode_of(config.configurations[number - 1]), []).append(str(number))
    for mode, listed in by_mode.items():
        print(mode, *listed)


def _needed_bytes(experiments: int) -> int:
    """Disk space for the exported, converted and deployed model of each experiment, dumps, and the checkpoint."""
    return MODEL_BYTES * (3 * experiments + 2)


def _child_env() -> dict[str, str]:
    """Environment of the stages: this process's, with the project's packages on the path and without TensorFlow's C++
    logs."""
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part)
    return {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1", **os.environ, "PYTHONPATH": path}


if __name__ == "__main__":
    run_entry_point(main)
