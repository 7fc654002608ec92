"""The metric of the autoscaler, from the servers themselves: the time in the queue, weighted by requests.

It is what Prometheus gives for ``sum(rate(nv_inference_queue_duration_us[w])) / sum(rate(
nv_inference_request_success[w]))`` over all servers of a model, in milliseconds, but for the extrapolation to the edges
of the window, which is the same in both sums.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

_SAMPLE = re.compile(
    r'^(nv_inference_queue_duration_us|nv_inference_request_success){model="([^"]*)"[^}]*} (\S+)$', re.M
)
_US_PER_MS = 1000


@dataclass
class QueueTime:
    """Samples of the last ``window_s`` seconds of one model's servers."""

    model: str
    window_s: float
    _samples: deque[tuple[float, dict[str, tuple[float, float]]]] = field(default_factory=deque)

    def add(self, now: float, texts: Mapping[str, str]) -> float | None:
        """Adds what each server, by its name, tells at its metrics port. Returns the milliseconds, 0.0 without requests
        in the window, and None as long as there is one sample."""
        self._samples.append((now, {name: self._read(text) for name, text in texts.items()}))
        while now - self._samples[0][0] > self.window_s:
            self._samples.popleft()
        if len(self._samples) == 1:
            return None
        queue_us = requests = 0.0
        names = {name for _, sample in self._samples for name in sample}
        for name in names:
            own = [sample[name] for _, sample in self._samples if name in sample]
            queue_us += own[-1][0] - own[0][0]
            requests += own[-1][1] - own[0][1]
        return queue_us / requests / _US_PER_MS if requests else 0.0

    def _read(self, text: str) -> tuple[float, float]:
        found = {kind: float(value) for kind, model, value in _SAMPLE.findall(text) if model == self.model}
        return found.get("nv_inference_queue_duration_us", 0.0), found.get("nv_inference_request_success", 0.0)
