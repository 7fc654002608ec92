"""What a tool is told to measure with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.triton_performance_runner.options import PerformanceOptions
from deployment_toolkit.triton_performance_runner.perf_data import InputData
from deployment_toolkit.triton_performance_runner.target import Target


@dataclass(frozen=True)
class Assignment:
    """A model to measure. ``folder`` is for the tool alone; ``env`` is what the processes that it starts inherit, None
    for this process's environment."""

    options: PerformanceOptions
    target: Target
    data: InputData
    folder: Path
    env: Mapping[str, str] | None = None
