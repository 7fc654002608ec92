"""The metric of the autoscaler, from the servers themselves: the time in the queue, weighted by requests.

It is what Prometheus gives for the query of the chart, ``sum(rate(nv_inference_queue_duration_us[w])) / sum(rate(
nv_inference_request_success[w]))`` over all servers of a model, in milliseconds. Prometheus also extrapolates to the
edges of the window, which changes both sums alike.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

_QUEUE_US, _ANSWERED = "nv_inference_queue_duration_us", "nv_inference_request_success"
_WAITING = "nv_inference_pending_request_count"
_SAMPLE = re.compile(rf'^({_QUEUE_US}|{_ANSWERED}|{_WAITING}){{model="([^"]*)"[^}}]*}} (\S+)$', re.M)
_US_PER_MS = 1000


@dataclass
class QueueTime:
    """Samples of the last ``window_s`` seconds of one model's servers."""

    model: str
    window_s: float
    _samples: deque[tuple[float, dict[str, dict[str, float]]]] = field(default_factory=deque)

    def add(self, now: float, texts: Mapping[str, str]) -> float | None:
        """Adds what each server, by its name, tells at its metrics port. Returns the milliseconds; 0.0 if nothing was
        answered in the window and nothing waits, None if nothing was answered and something waits, and None as long as
        there is one sample."""
        self._samples.append((now, {name: self._read(text) for name, text in texts.items()}))
        while now - self._samples[0][0] > self.window_s:
            self._samples.popleft()
        if len(self._samples) == 1:
            return None
        queue_us = requests = 0.0
        names = {name for _, sample in self._samples for name in sample}
        for name in names:
            own = [sample[name] for _, sample in self._samples if name in sample]
            queue_us += own[-1].get(_QUEUE_US, 0.0) - own[0].get(_QUEUE_US, 0.0)
            requests += own[-1].get(_ANSWERED, 0.0) - own[0].get(_ANSWERED, 0.0)
        if requests:
            return queue_us / requests / _US_PER_MS
        waiting = sum(self._read(text).get(_WAITING, 0.0) for text in texts.values())
        return None if waiting else 0.0

    def _read(self, text: str) -> dict[str, float]:
        return {kind: float(value) for kind, model, value in _SAMPLE.findall(text) if model == self.model}
