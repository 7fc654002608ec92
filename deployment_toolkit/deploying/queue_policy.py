"""Limits of the queue in front of a model with dynamic batching, so that an overloaded server refuses what it would
answer too late.

Source of the fields: Triton's ``ModelDynamicBatching`` and ``ModelQueuePolicy`` (``model_config.proto``). A queue with
limits or priorities has two faults in Triton 2.51 (docs/overload.md): with one instance, the server may notice a
request up to half a second late; with a queue delay, it becomes slower and slower until the model is loaded again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deployment_toolkit.core import Mnemonic
from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.located_yaml import MOST

WAITING_SHARE = (
    0.5  # of a latency budget: the other half is for the batch of the request, and for what comes before and after it
)
INSTANCES = 2  # at least, of a model whose queue has limits
US_PER_MS = 1000
NO_DELAY = (
    "with a queue that has limits or priorities use 0: else Triton gets slower until the model is loaded again (issue "
    "8870 of its server)"
)


class TimeoutAction(Mnemonic):
    """What the server does with a request that has waited for the queue's time limit: refuse it, or answer it after
    all requests that have not."""

    REJECT = "reject"
    DELAY = "delay"


@dataclass(frozen=True)
class QueuePolicy:
    """Limits of a queue; 0 is no limit.

    ``max_queue_size`` is the number of requests that may wait, in each priority level; a request more is refused at
    once. ``timeout_us`` is the longest wait. With ``priority_levels``, 1 is the first to be answered; a request without
    a priority has ``default_priority_level``, by default the last. Raises UsageError for limits that make no sense.
    """

    max_queue_size: int = 0
    timeout_us: int = 0
    timeout_action: TimeoutAction = TimeoutAction.REJECT
    priority_levels: int = 0
    default_priority_level: int = 0

    def __post_init__(self) -> None:
        problem = next(self._problems(), None)
        if problem is not None:
            raise UsageError(problem)

    @classmethod
    def of(cls, *, latency_budget_ms: float | None, timeout_us: int | None, **limits: Any) -> QueuePolicy:
        """Policy in which the longest wait, if ``timeout_us`` is None, follows from the latency budget, if there is
        one: half of it. ``limits`` are the other fields."""
        if latency_budget_ms is not None and not 0 < latency_budget_ms * US_PER_MS <= MOST:
            raise UsageError(f"latency_budget_ms {latency_budget_ms:g}: use a number above 0, at most {MOST // 1000}")
        if timeout_us is None:
            timeout_us = round((latency_budget_ms or 0) * US_PER_MS * WAITING_SHARE)
            timeout_us = max(1, timeout_us) if latency_budget_ms else 0
        return cls(timeout_us=timeout_us, **limits)

    @classmethod
    def read(cls, dynamic_batching: Any) -> QueuePolicy:
        """Inverse of ``write``."""
        policy, levels = dynamic_batching.default_queue_policy, dynamic_batching.priority_levels
        return cls(
            max_queue_size=policy.max_queue_size,
            timeout_us=policy.default_timeout_microseconds,
            timeout_action=TimeoutAction[policy.TimeoutAction.Name(policy.timeout_action)],
            priority_levels=levels,
            default_priority_level=dynamic_batching.default_priority_level if levels else 0,
        )

    @property
    def is_set(self) -> bool:
        """True if there is a limit or an order."""
        return self != NO_LIMIT

    @property
    def may_refuse(self) -> bool:
        """True if there is a load at which requests are refused."""
        return bool(self.max_queue_size or (self.timeout_us and self.timeout_action is TimeoutAction.REJECT))

    def write(self, dynamic_batching: Any) -> None:
        """Writes the policy into a ``ModelDynamicBatching`` message."""
        if self.max_queue_size or self.timeout_us:
            policy = dynamic_batching.default_queue_policy
            policy.max_queue_size = self.max_queue_size
            policy.default_timeout_microseconds = self.timeout_us
            policy.timeout_action = policy.TimeoutAction.Value(self.timeout_action.name)
        if self.priority_levels:
            dynamic_batching.priority_levels = self.priority_levels
            dynamic_batching.default_priority_level = self.default_priority_level or self.priority_levels

    def __str__(self) -> str:
        parts = []
        if self.max_queue_size:
            each = " of each priority" if self.priority_levels else ""
            parts.append(f"at most {self.max_queue_size} requests{each} wait, a further one is refused")
        if self.timeout_us:
            then = {TimeoutAction.REJECT: "then it is refused", TimeoutAction.DELAY: "then all others come first"}
            parts.append(f"a request waits at most {self.timeout_us / US_PER_MS:g} ms, {then[self.timeout_action]}")
        if self.priority_levels:
            default = self.default_priority_level or self.priority_levels
            parts.append(f"{self.priority_levels} priorities, {default} without one")
        return "; ".join(parts) or "no limit"

    def _problems(self) -> Iterator[str]:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            name = {"timeout_us": "queue_timeout_us"}.get(item.name, item.name)
            if isinstance(value, int) and not 0 <= value <= MOST:
                yield f"{name} must be from 0 to {MOST}, not {value}"
        if self.timeout_action is not TimeoutAction.REJECT and not self.timeout_us:
            yield f"queue_timeout_action {self.timeout_action} needs a queue_timeout_us above 0, or a latency_budget_ms"
        if self.default_priority_level > self.priority_levels:
            most = f"is outside 1 .. {self.priority_levels}" if self.priority_levels else "needs priority_levels"
            yield f"default_priority_level {self.default_priority_level} {most}"


NO_LIMIT = QueuePolicy()
