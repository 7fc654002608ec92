"""What a report says about the queue before an experiment's model."""

from __future__ import annotations

from deployment_toolkit.core import Batching
from deployment_toolkit.deploying.queue_policy import INSTANCES, US_PER_MS
from deployment_toolkit.results.performance import BATCH, P99
from runner.report.results import ExperimentResult


def queue_note(result: ExperimentResult) -> list[str]:
    """Paragraph about the queue's limits and the latest answers that follow from them; empty without dynamic
    batching."""
    experiment = result.experiment
    parameters, queue = experiment.parameters, experiment.parameters.queue
    if experiment.batching is not Batching.DYNAMIC:
        return []
    alone = ""
    if queue.is_set and parameters.number_of_model_instances < INSTANCES:
        alone = (
            " With one instance, Triton may notice a request up to half a second late: "
            f"`number_of_model_instances: {INSTANCES}` helps."
        )
    if not queue.may_refuse:
        limits = f"Queue: {queue}.{alone} " if queue.is_set else "Queue: no limit. "
        return [
            f"{limits}With more requests than the server can answer, each answer comes later than the one before; "
            "`latency_budget_ms` makes the server refuse what would be late.\n"
        ]
    follows = parameters.latency_budget_ms is not None and parameters.queue_timeout_us is None
    source = f" (half of `latency_budget_ms`, {parameters.latency_budget_ms:g})" if follows else ""
    return [f"Queue: {queue}{source}.{_latest(result)}{alone}\n"]


def _latest(result: ExperimentResult) -> str:
    """The time of the latest answer, from the longest wait and the measured time of the largest batch."""
    parameters = result.experiment.parameters
    timeout_ms, budget_ms = parameters.queue.timeout_us / US_PER_MS, parameters.latency_budget_ms
    if not timeout_ms or not result.offline:
        return ""
    largest = max(result.offline, key=lambda row: int(row[BATCH]))
    batch_ms = float(largest[P99]) / US_PER_MS
    latest_ms = timeout_ms + parameters.number_of_model_instances * batch_ms
    text = f" A batch of {largest[BATCH]} takes {batch_ms:.1f} ms (p99), so the latest answers take about "
    text += f"{latest_ms:.0f} ms at the server"
    if budget_ms is None:
        return f"{text}."
    if latest_ms <= budget_ms:
        return f"{text}, within the budget."
    return f"{text}, **over the budget**: a smaller `max_batch_size` or a shorter `queue_timeout_us` helps."
