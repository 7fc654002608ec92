"""The stages that follow where a configuration names an ensemble: raw features in, the network's probability out."""

from __future__ import annotations

from pathlib import Path

from deployment_toolkit.core import EvaluationMode
from runner.command import Command, make_command, script
from runner.experiment import Experiment
from runner.networks.wide_deep import WideDeepNetwork
from runner.stages.capacity import PERFORMANCE_CAPACITY, capacity_command
from runner.stages.client import (
    gate_command,
    inference_command,
    offline_sweep,
    online_sweep,
    performance_command,
)
from runner.stages.network import REFERENCE, Stage, in_order, sweep_stages

PREFIX = "ensemble_"  # of the commands' logs
ASKED_BY = ("grpc_async", "http_async")  # what differs between sync and async was compared with the network


def deploy_ensemble(experiment: Experiment) -> list[Command]:
    """The data set's workflow and the chain beside the deployed network, loaded and answering."""
    parameters, network, server = experiment.parameters, _network(experiment), experiment.server_config
    argv = [
        *script("deploy_ensemble.py", "--ensemble-model-name", _name(experiment)),
        *("--model-name", experiment.names.network, "--model-repository", experiment.folders.model_store),
        *("--workflow-path", network.workflow, *network.specification_options()),
        *("--preprocessing-instances", parameters.number_of_model_instances),
        *("--model-control-mode", server.load_method, "--load-model", "--load-model-timeout-s", "120"),
        *("--server-url", experiment.running_server.grpc_url, *server.client_options),
    ]
    return [make_command(f"{PREFIX}deploy", argv, server.client_variables)]


def ensemble_correctness(experiment: Experiment) -> list[Command]:
    """Raw validation rows through the ensemble; the gate against the framework on the preprocessed ones."""
    dumps = experiment.folders.dumps
    batch_size = min(experiment.correctness.batch_size, experiment.parameters.max_batch_size)
    rows = _network(experiment).raw_row_arguments(batch_size)
    commands = [
        inference_command(
            experiment, f"{PREFIX}inference_{name}", _name(experiment), name, rows, _dump(experiment, name)
        )
        for name in ASKED_BY
    ]
    served = [_dump(experiment, name) for name in ASKED_BY]
    csv = experiment.folders.ensemble_results / "correctness.csv"
    return [*commands, gate_command(experiment, f"{PREFIX}gate", dumps / REFERENCE, served, csv)]


def ensemble_offline(experiment: Experiment) -> list[Command]:
    """The network's batch sweep, of raw features."""
    return [_performance(experiment, EvaluationMode.OFFLINE)]


def ensemble_online(experiment: Experiment) -> list[Command]:
    """The network's concurrency sweep, of raw features."""
    return [_performance(experiment, EvaluationMode.ONLINE)]


def ensemble_capacity(experiment: Experiment) -> list[Command]:
    """The network's search for capacity, of raw features."""
    rows = _network(experiment).raw_row_arguments(experiment.parameters.max_batch_size)
    name, folder = f"{PREFIX}performance_capacity", experiment.folders.ensemble_results
    return [capacity_command(experiment, name, _name(experiment), rows, folder)]


def _table(experiment: Experiment, mode: EvaluationMode) -> Path:
    return experiment.folders.ensemble_results / f"triton_performance_{mode}.csv"


def _name(experiment: Experiment) -> str:
    assert experiment.names.ensemble is not None, "without a name there are no such stages"
    return experiment.names.ensemble


def _dump(experiment: Experiment, transport: str) -> Path:
    return experiment.folders.dumps / "ensemble" / transport


def _network(experiment: Experiment) -> WideDeepNetwork:
    network = experiment.network
    assert isinstance(network, WideDeepNetwork), "no other network has an ensemble"
    return network


ENSEMBLE_STAGES = (
    Stage("ensemble deploy", in_order(deploy_ensemble), needs_server=True),
    Stage("ensemble correctness", in_order(ensemble_correctness), needs_server=True),
    *sweep_stages("ensemble performance", ensemble_offline, ensemble_online, _table),
)
ENSEMBLE_CAPACITY = Stage(
    f"ensemble {PERFORMANCE_CAPACITY.name}", in_order(ensemble_capacity), needs_server=True, measures=True, parts=2
)


def _performance(experiment: Experiment, mode: EvaluationMode) -> Command:
    points = (offline_sweep if mode is EvaluationMode.OFFLINE else online_sweep)(experiment)
    rows = _network(experiment).raw_row_arguments(experiment.parameters.max_batch_size)
    name, csv = f"{PREFIX}performance_{mode}", _table(experiment, mode)
    return performance_command(experiment, name, _name(experiment), mode, points, rows, csv)
