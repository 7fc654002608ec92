"""Options of ``triton-config-model`` about the queue before the model, and about the batches computed at its load."""

from __future__ import annotations

from dataclasses import dataclass

from deployment_toolkit.core import Host
from deployment_toolkit.deploying.queue_policy import QueuePolicy, TimeoutAction
from deployment_toolkit.deploying.warmup import MOST_ROWS, usual_sizes
from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.params import option


@dataclass(frozen=True)
class QueueOptions:
    """Options of the queue; they are for dynamic batching."""

    latency_budget_ms: float | None = option(
        "the latest useful answer, in milliseconds: --queue-timeout-us is then half of it by default", None
    )
    max_queue_size: int = option(
        "requests that may wait, in each priority level; the server refuses a further one at once; 0: any number", 0
    )
    queue_timeout_us: int | None = option(
        "longest time that a request may wait, in microseconds; 0: any time; default: half of --latency-budget-ms, "
        "any time without one",
        None,
    )
    queue_timeout_action: TimeoutAction = option(
        "a request that has waited too long: reject: it is refused; delay: it is answered after those that have not",
        TimeoutAction.REJECT,
    )
    priority_levels: int = option(
        "number of priorities that a request may have, 1 is answered first; 0: requests have none", 0
    )
    default_priority_level: int = option("priority of a request that names none; 0: the last", 0)

    @property
    def policy(self) -> QueuePolicy:
        """The queue's limits. Raises UsageError for limits that make no sense."""
        try:
            return QueuePolicy.of(
                latency_budget_ms=self.latency_budget_ms,
                timeout_us=self.queue_timeout_us,
                max_queue_size=self.max_queue_size,
                timeout_action=self.queue_timeout_action,
                priority_levels=self.priority_levels,
                default_priority_level=self.default_priority_level,
            )
        except UsageError as error:
            name, _, rest = str(error).partition(" ")
            raise UsageError(f"--{name.replace('_', '-')} {rest}") from error


@dataclass(frozen=True)
class WarmupOptions:
    """Option of the warm-up."""

    warmup_batch_sizes: list[int] = option(
        "batches that the server computes when it loads the model, before the model is ready; 0: none; default: 1, the "
        f"preferred sizes and the largest batch, those of at most {MOST_ROWS} rows; in the C++ host none, it computes "
        "many sizes by itself",
        [],
        nargs="+",
        unique=True,
    )

    def sizes(self, host: Host, max_batch_size: int, preferred_batch_sizes: list[int]) -> tuple[int, ...]:
        """Sizes of the batches for a model that takes ``max_batch_size`` rows, 0 if the server does not batch."""
        if self.warmup_batch_sizes == [0]:
            return ()
        if self.warmup_batch_sizes or host is Host.CPP:
            return tuple(self.warmup_batch_sizes)
        return usual_sizes(max_batch_size, preferred_batch_sizes)
