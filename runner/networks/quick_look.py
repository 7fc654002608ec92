"""A quick look (``--quick``): a run of the same network with a shorter training, fewer experiments and measurements.

The data are the full run's: on fewer rows, chance alone would move the metrics by as much as the gate allows int8 to
lose. The checkpoint that is trained for a moment has a name of its own, so that no full run takes it for its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from deployment_toolkit.core import Format, Precision
from deployment_toolkit.errors import UsageError
from runner.config.experiment import Parameters
from runner.config.hosting import fitted_here, missing_here
from runner.config.parts import Checkpoint
from runner.config.problems import refusals
from runner.config.quick import Quick
from runner.config.run import RunConfig
from runner.networks.network import is_there, relative
from runner.workspace import Workspace

_STEPS = 1  # batch 1 and the largest batch offline, the most requests online: three points
_REQUESTS = 8
# What promises most, best last. A narrower precision gains more than another format does.
_PRECISIONS = (Precision.FP32, Precision.TF32, Precision.FP16, Precision.BF16, Precision.INT8)
_FORMATS = (Format.TF_SAVEDMODEL, Format.TF_TRT, Format.ONNX, Format.OPENVINO, Format.TRT)


@dataclass(frozen=True)
class QuickLook:
    """A run's configuration made short. ``numbers`` are its experiments, and ``changes`` say, in a sentence each, how
    it differs from the full run."""

    config: RunConfig
    numbers: list[int]
    changes: list[str]


def quick_look(config: RunConfig, numbers: Sequence[int], workspace: Workspace) -> QuickLook:
    """The quick look at a run, at the experiments ``numbers``, or at those that the configuration or this function
    chooses. Raises UsageError if the configuration's key ``quick`` names an experiment that is not there."""
    quick = config.quick or Quick()
    chosen = sorted(set(numbers or quick.experiments or _choice(config)))
    for number in chosen:
        if number not in config.experiment_numbers:
            last = len(config.configurations)
            raise UsageError(f"quick: experiment {number} is not there, the configuration has 1 to {last}")
    listed = ", ".join(map(str, chosen))
    changes = [f"Experiments: {listed} of {len(config.configurations)}."]
    if config.network is None:
        config, trained = _shorter_training(config, quick, workspace)
        changes.append(trained)
    if any(config.searches(number) for number in chosen):
        changes.append("Search: none, the settings are the configured ones.")
    if config.capacity is not None:
        changes.append("Capacity: not measured.")
    if config.baseline is not None:
        changes.append("Baseline: not compared, the checkpoint may be another.")
    requests = min(_REQUESTS, config.measurement.request_count)
    measurement = dataclasses.replace(config.measurement, request_count=requests, retries=0)
    config = dataclasses.replace(
        config,
        measurement_steps_offline=_STEPS,
        measurement_steps_online=_STEPS,
        measurement=measurement,
        correctness=dataclasses.replace(config.correctness, one_at_a_time=False),
        search=None,
        capacity=None,
        baseline=None,
    )
    changes.append("Correctness: every row, over gRPC and HTTP with many requests at once, not also one by one.")
    changes.append("Measurements: batch 1, the largest batch and the most requests at once, each once and briefly.")
    return QuickLook(config, chosen, changes)


def _choice(config: RunConfig) -> list[int]:
    """TensorFlow's SavedModel in fp32, else the experiment that promises least, and the one that promises most, of
    those that can be served here; all experiments if none can, since each then tells its reason."""
    refused = refusals(config, config.experiment_numbers)
    known = {number: fitted_here(config.configurations[number - 1].parameters) for number in config.experiment_numbers}
    served = [number for number in known if number not in refused and not missing_here(known[number])]
    if not served:
        return list(known)
    reference = min(served, key=lambda number: _promise(known[number]))
    return sorted({reference, max(served, key=lambda number: _promise(known[number]))})


def _promise(parameters: Parameters) -> tuple[int, int]:
    precision, fmt = parameters.precision, parameters.format
    return (
        _PRECISIONS.index(precision) if precision in _PRECISIONS else -1,
        _FORMATS.index(fmt) if fmt in _FORMATS else -1,
    )


def _shorter_training(config: RunConfig, quick: Quick, workspace: Workspace) -> tuple[RunConfig, str]:
    """The configuration with checkpoints that are trained for few steps in place of those that would be trained in
    full."""
    names = {
        item.name: f"{item.name}_quick"
        for item in config.checkpoints
        if not item.url and not is_there(workspace.checkpoint(item.name))
    }
    if not names:
        return config, "Checkpoint: the full run's."
    training = dataclasses.replace(config.training, epochs=1, max_steps=quick.training_steps)
    configurations = [
        dataclasses.replace(
            item,
            checkpoint=names.get(item.checkpoint, item.checkpoint),
            parameters=dataclasses.replace(
                item.parameters, checkpoint=names.get(item.parameters.checkpoint, item.parameters.checkpoint)
            ),
        )
        for item in config.configurations
    ]
    shorter = dataclasses.replace(
        config,
        checkpoints=[Checkpoint(names[one.name]) if one.name in names else one for one in config.checkpoints],
        configurations=configurations,
        training=training,
    )
    missing = ", ".join(relative(workspace.checkpoint(name)) for name in names)
    steps = f"{quick.training_steps} step{'s' if quick.training_steps > 1 else ''} of {training.batch_size:,} rows"
    return shorter, (
        f"Checkpoint: {', '.join(names.values())}, trained for at most {steps}, since {missing} is not there. It ranks "
        "worse than a full run's, and is as fast."
    )
