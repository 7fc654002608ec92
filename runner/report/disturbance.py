"""What the report says of disturbed measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from deployment_toolkit.results.disturbed import disturbance_sentence, judged
from deployment_toolkit.results.performance import PerformanceRow
from runner.report.results import ExperimentResult


def judged_results(results: Sequence[ExperimentResult]) -> list[ExperimentResult]:
    """The results of a run, with a mark also where the CPU was slower than it was at best in the whole run."""
    among = _rows(results)
    return [
        dataclasses.replace(
            result,
            offline=judged(result.offline, among),
            online=judged(result.online, among),
            capacity=judged(result.capacity, among),
        )
        for result in results
    ]


def disturbance_note(results: Sequence[ExperimentResult]) -> str:
    """Sentence about all measurements of a run; empty if none was watched."""
    return disturbance_sentence(_rows(results))


def _rows(results: Sequence[ExperimentResult]) -> list[PerformanceRow]:
    return [row for result in results for row in (*result.offline, *result.online, *result.capacity)]
