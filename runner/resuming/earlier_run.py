"""What a run that goes on takes over from its earlier parts."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from deployment_toolkit.errors import DeploymentError
from deployment_toolkit.server_access.ports import choose_free
from deployment_toolkit.triton_server.remote import TritonServer
from runner.config.experiment import TritonLaunchMode
from runner.experiment import Experiment
from runner.report.task import Task
from runner.resuming.kept_stages import SEARCH, KeptStages
from runner.resuming.ledger import RunLedger
from runner.resuming.plan import planned
from runner.stages.network import Stage


def take_over(task: Task, experiment: Experiment, stages: Sequence[Stage], ledger: RunLedger) -> None:
    """Adds the records of kept stages that the run did not come to, and gives all kept ones the commands that would
    make the same again, for the script that repeats them. A search has none: the script deploys what it chose."""
    part = len(task.parts)
    if part == 1:
        return
    known = {record.name for record in task.of_experiment(experiment.number)}
    with contextlib.suppress(DeploymentError, OSError):  # it ended before its data was there, or on a full disk
        kept = KeptStages(experiment, stages, ledger)
        found = [kept.record(stage) for stage in stages if stage.name not in known]
        task.records += [record for record in found if record is not None]
    by_name = {stage.name: stage for stage in stages}
    for record in task.of_experiment(experiment.number):
        stage = by_name.get(record.name)
        if record.part < part and not record.commands and stage is not None and stage.name != SEARCH:
            if stage.needs_server and experiment.server is None:
                experiment.server = _future_server(experiment)
            record.commands = planned(experiment, stage, experiment.server)


def _future_server(experiment: Experiment) -> TritonServer:
    """Addresses of a server that the script starts, or of one that somebody else has started."""
    config = experiment.server_config
    if config.mode is TritonLaunchMode.REMOTE:
        return TritonServer(http_url=config.http_url, grpc_url=config.grpc_url)
    ports = choose_free({"http": config.http_port, "grpc": config.grpc_port, "metrics": None})
    http, grpc, metrics = (f"127.0.0.1:{ports[name]}" for name in ("http", "grpc", "metrics"))
    return TritonServer(http_url=f"http://{http}", grpc_url=f"grpc://{grpc}", metrics_url=f"http://{metrics}/metrics")
