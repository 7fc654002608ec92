"""Limits of time and memory for what a test does in this process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

CPU_S = 5.0
MEMORY_BYTES = 256 * 2**20


@contextlib.contextmanager
def few_resources() -> Iterator[None]:
    """Fails if its block takes more than 5 s of CPU, or at any moment 256 MiB more than this process had before."""
    before_bytes = _status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the kernel counts the peak anew
    started = time.process_time()
    yield
    used_s, used_bytes = time.process_time() - started, _status_bytes("VmHWM") - before_bytes
    assert used_s < CPU_S
    assert used_bytes < MEMORY_BYTES


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
