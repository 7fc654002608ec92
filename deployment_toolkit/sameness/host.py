"""This host, as far as measurements depend on it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from pathlib import Path

from deployment_toolkit.hardware import cpu_flags, gpu_descriptions
from deployment_toolkit.machine import usable_cores

_MACHINE_ID = Path("/etc/machine-id")
_PURPOSE = b"widedeep-measurements"  # so that the id itself is in no file, as machine-id(5) asks for
_GIB = 2**30


def read_host() -> dict[str, str]:
    """Features of this host: its CPU, the cores that this process has, memory, kernel and GPUs, and a digest of the
    id that its system gave itself, empty if it has none, as in many containers."""
    return {
        "CPU": f"{platform.machine()}, {_cpu_name()}",
        "cores": str(usable_cores()),
        "instructions": hashlib.sha256(" ".join(sorted(cpu_flags())).encode()).hexdigest()[:8],
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GIB:.0f} GiB",
        "kernel": platform.release(),
        "GPUs": "; ".join(gpu_descriptions()),
        "machine id": _machine_digest(),
    }


def other_features(earlier: object) -> list[str]:
    """How this host differs from an earlier one: a phrase per feature, empty for the same host."""
    known = earlier if isinstance(earlier, dict) else {}
    here = read_host()
    return [f"{name} {here[name]} in place of {known.get(name)}" for name in here if known.get(name) != here[name]]


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return ""


def _machine_digest() -> str:
    with contextlib.suppress(OSError):
        known = _MACHINE_ID.read_bytes().strip()
        return hashlib.sha256(_PURPOSE + known).hexdigest()[:12] if known else ""
    return ""
