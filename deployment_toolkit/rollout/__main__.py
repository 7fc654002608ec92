"""Replaces a model on a running server by a new version, without a lost request: ``python -m
deployment_toolkit.rollout COMMAND …``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.deploying.deployment import name_problems
from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.command_line import DATALOADER, METRICS, CommandLine
from deployment_toolkit.options.commands import chosen_command
from deployment_toolkit.options.params import add_dataclass, make_parser, option, run_entry_point
from deployment_toolkit.options.plugins import Plugin, parse_with_plugins
from deployment_toolkit.rollout.gating import GateRows
from deployment_toolkit.rollout.overview import overview
from deployment_toolkit.rollout.record import Site
from deployment_toolkit.rollout.serving import ready_versions, told
from deployment_toolkit.rollout.steps import finish, gate, go_back, promote, stage
from deployment_toolkit.rows.dump import Dump
from deployment_toolkit.rows.gate import GateLimits
from deployment_toolkit.server_access.access_options import AccessOptions

logger = logging.getLogger("rollout")


@dataclass(frozen=True)
class RolloutOptions:
    """Options of every command."""

    model_repository: Path = option("the server's model repository, by its path on this host")
    model_name: str = option("name of the model that is served and gets a new version")
    server_url: str = option(
        "the server, as http://host:port or grpc://host:port, with TLS https:// or grpcs://", "http://localhost:8000"
    )
    load_model_timeout_s: float = option("time limit of loading, in seconds", 100.0)

    def __post_init__(self) -> None:
        if not self.load_model_timeout_s > 0:
            raise UsageError(f"--load-model-timeout-s must be above 0, not {self.load_model_timeout_s:g}")
        for problem in name_problems(self.model_name):
            raise UsageError(f"--model-name {self.model_name}: {problem}")


@dataclass(frozen=True)
class StageOptions:
    """Options of ``stage``."""

    candidate: Path = option(
        "folder of the new model in another repository, with its config.pbtxt and the folder of one version"
    )


@dataclass(frozen=True)
class GateRowsOptions:
    """Options of ``gate``, in addition to the limits; dataloader and calculator add others."""

    reference_dump_dir: Path = option(
        "dump of the new model's answers, as a framework made it; with --dump-inputs its rows need no dataloader"
    )
    dataloader: Path | None = option("module with get_dataloader_fn, for a dump without inputs", None)
    metrics: Path | None = option("module with MetricsCalculator, for --max-metric-loss", None)
    request_rows: list[int] | None = option(
        "sizes of the first requests, each sent alone, so that the model runs in this size; default: many, up to the "
        "largest batch; without a value none, as for a TensorRT that compiles the model for each size",
        None,
    )
    max_unresponded_requests: int = option("largest number of the gate's requests in flight", 1)
    response_wait_time: float = option("seconds to wait for the answer of the oldest request", 120.0)


@dataclass(frozen=True)
class PromoteOptions:
    """Options of ``promote``."""

    alone: bool = option(
        "serve the new version alone, so that requests for another one, by its number, are refused; needed where the "
        "configurations of the versions differ",
        False,
    )


def _stage(site: Site, command: CommandLine) -> str:
    record = stage(site, command.get(StageOptions).candidate)
    return f"version {record.new_version} of {site.name} is served as {site.candidate_name}: gate it next"


def _gate(site: Site, command: CommandLine) -> str:
    options = command.get(GateRowsOptions)
    reference = Dump(options.reference_dump_dir)
    rows = command.call(DATALOADER) if command.names(DATALOADER) else reference
    calculator = (lambda: command.call(METRICS)) if command.names(METRICS) else None
    asked = GateRows(rows, options.request_rows, options.max_unresponded_requests, options.response_wait_time)
    record = gate(site, reference, asked, command.get(GateLimits), calculator)
    return f"version {record.new_version} of {site.name} has passed the gate: promote it next"


def _promote(site: Site, command: CommandLine) -> str:
    record = promote(site, alone=command.get(PromoteOptions).alone)
    return f"{site.name} serves version {told(record.served)}: finish, or go back"


def _back(site: Site, command: CommandLine) -> str:
    go_back(site)
    return f"{site.name} serves version {told(ready_versions(site, site.name))}, and the candidate is gone"


def _finish(site: Site, command: CommandLine) -> str:
    record = finish(site)
    return f"{site.name} serves version {record.new_version}, version {told(record.old_versions)} is removed"


@dataclass(frozen=True)
class _Command:
    purpose: str
    run: Callable[[Site, CommandLine], str] | None = None
    groups: Sequence[type] = ()
    plugins: Sequence[Plugin] = ()


COMMANDS = {
    "stage": _Command("load the new model beside the old one, under a name of its own", _stage, [StageOptions]),
    "gate": _Command(
        "compare its answers with a reference", _gate, [GateRowsOptions, GateLimits], [DATALOADER, METRICS]
    ),
    "promote": _Command("serve it as the newest version of the model", _promote, [PromoteOptions]),
    "back": _Command("serve what was served before, and remove the new model", _back),
    "finish": _Command("serve the new version alone, and remove the old one", _finish),
    "status": _Command("tell what was done, what is served and what can follow"),
}


def main(argv: list[str]) -> None:
    purposes = {name: command.purpose for name, command in COMMANDS.items()}
    usage = "python -m deployment_toolkit.rollout COMMAND [options]"
    name = chosen_command("rollout", usage, purposes, argv, about=" ".join((__doc__ or "").split()))
    command = COMMANDS[name]
    parser = make_parser(command.purpose)
    parser.prog = f"rollout {name}"
    for group in (RolloutOptions, AccessOptions, *command.groups):
        add_dataclass(parser, group)
    given = CommandLine(parser, *parse_with_plugins(parser, argv[1:], command.plugins))
    site = _site(given)
    if command.run is None:
        for line in overview(site):
            print(line, flush=True)
        return
    with site.lock():
        print(command.run(site, given))


def _site(given: CommandLine) -> Site:
    options: Any = given.get(RolloutOptions)
    url = given.get(AccessOptions).url(options.server_url)
    return Site(options.model_repository.resolve(), options.model_name, url, options.load_model_timeout_s)


if __name__ == "__main__":
    run_entry_point(main)
