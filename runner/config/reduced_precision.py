"""Experiments in a precision of the CPU that is narrower than float32: which they are, and whether this CPU has it."""

from __future__ import annotations

from deployment_toolkit.core import Format, Precision
from deployment_toolkit.cpu import missing_instructions
from runner.config.experiment import Parameters

_REDUCED = (Precision.BF16, Precision.INT8)


def is_reduced(parameters: Parameters) -> bool:
    """Whether metrics alone judge the answers, since rows can't agree to the last digits."""
    return parameters.format is Format.OPENVINO and parameters.precision in _REDUCED


def missing_here(parameters: Parameters) -> str:
    """Why an experiment can't be run on this host; nothing if it can."""
    return missing_instructions(parameters.precision) if is_reduced(parameters) else ""
