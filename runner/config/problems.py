"""Reasons why a configuration, or some of its experiments, can't be launched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from deployment_toolkit.core import Format, PerformanceTool
from deployment_toolkit.options.located_yaml import Located
from runner.config.experiment import TritonLaunchMode
from runner.config.servers import REMOTE_KEYS, needless, refusal, server_problems

if TYPE_CHECKING:
    from runner.config.run import RunConfig


def problems_of(config: RunConfig, numbers: Sequence[int]) -> Iterator[str]:
    """Reasons why the experiments ``numbers`` can't be launched as configured."""
    yield from needless(config, {config.launch_mode_of(item) for item in config.configurations})
    if config.from_image_name and not config.triton_dockerfile:
        yield "from_image_name is what triton_dockerfile builds on: give that too, or leave it out"
    plans = [config.server_plan(number) for number in numbers]
    modes = {plan.mode for plan in plans}
    if TritonLaunchMode.DOCKER in modes:
        for key in ("triton_dockerfile", "triton_custom_operations"):
            path = config.dockerfile if key == "triton_dockerfile" else config.triton_custom_operations
            if path is not None and not path.is_file():
                yield f"{key} {getattr(config, key)}: there is no such file"
    if TritonLaunchMode.REMOTE in modes:
        for key in REMOTE_KEYS:
            if getattr(config, key) is None:
                yield f"triton_launch_mode remote needs {key}: add it"
        if config.performance_tool is PerformanceTool.MODEL_ANALYZER:
            yield "triton_launch_mode remote: model_analyzer measures a server of its own, use perf_analyzer"
    for number in numbers if config.ensemble_model_name else ():
        if config.configurations[number - 1].parameters.packed_inputs:
            yield (
                f"configuration {number}: packed_inputs, but preprocessing in an ensemble makes a tensor for each "
                "feature: leave ensemble_model_name or packed_inputs out"
            )
    for plan in plans:
        yield from needless(config.configurations[plan.number - 1], {plan.mode})
        yield from server_problems(plan)
        if config.searches(plan.number):
            assert config.search is not None, "else it searches nothing"
            for problem in config.search.problems(plan.mode, plan.parameters, config.batching):
                yield f"configuration {plan.number}: {problem}"
        if config.capacity is not None:
            for problem in config.capacity.problems(plan.parameters, config.batching):
                yield f"configuration {plan.number}: {problem}"


def refusals(config: RunConfig, numbers: Sequence[int]) -> dict[int, str]:
    """Experiments, of ``numbers``, that can't be served in a container of their release, and why; the others can
    run without them."""
    reasons = {number: refusal(config.server_plan(number)) for number in numbers}
    savedmodels = [
        str(number)
        for number, reason in reasons.items()
        if not reason and config.configurations[number - 1].parameters.format is Format.TF_SAVEDMODEL
    ]
    alone = f"run {Format.TF_SAVEDMODEL} alone: --experiments {' '.join(savedmodels)}"
    other = alone if savedmodels else f"serve {Format.TF_SAVEDMODEL} or another format"
    return {number: f"configuration {number}: {reason}, or {other}" for number, reason in reasons.items() if reason}


def place_of(found: Located, problem: str) -> str:
    """Place in the file that a problem is about: the experiment's, or that of the key that it begins with."""
    words = problem.partition(":")[0].split()
    if words[0] == "configuration":
        return str(found.value["configurations"].value[int(words[1]) - 1].where)
    return str(found.value[words[0]].where) if words[0] in found.value else str(found.path)
