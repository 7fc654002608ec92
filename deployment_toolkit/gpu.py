"""Which NVIDIA GPUs this machine has, as its driver tells."""

from __future__ import annotations

import tempfile
from pathlib import Path

from deployment_toolkit.errors import DeviceError, ProcessError
from deployment_toolkit.process import run

_FORMAT = "--format=csv,noheader"
_TIMEOUT_S = 30.0


def gpu_names() -> list[str]:
    """Product name of each GPU by index; none where there is no driver."""
    return _ask("name")


def gpu_descriptions() -> list[str]:
    """Product name, memory and driver of each GPU by index, as ``nvidia-smi`` prints them; none where there is no
    driver."""
    return _ask("name,memory.total,driver_version")


def _ask(fields: str) -> list[str]:
    query = ("nvidia-smi", f"--query-gpu={fields}", _FORMAT)
    with tempfile.TemporaryDirectory(prefix="gpu_") as folder:
        try:
            listed = run(query, timeout_s=_TIMEOUT_S, log_path=Path(folder) / "nvidia-smi.log", poll_s=0.02).stdout
        except ProcessError:
            return []
    return [line.strip() for line in listed.splitlines() if line.strip()]


def require_gpu(what: str) -> list[str]:
    """The GPUs' names. Raises DeviceError, telling that ``what`` needs one, where there is none."""
    names = gpu_names()
    if not names:
        raise DeviceError(
            f"{what} needs an NVIDIA GPU and this machine shows none (nvidia-smi): run it on a GPU host, or use a "
            "format and a device kind for the CPU"
        )
    return names
