"""This machine's CPU, with the number formats that it has instructions for, and its NVIDIA GPUs.

OpenVINO's own list (``OPTIMIZATION_CAPABILITIES``) names INT8 on every CPU, and BF16 on those that have to emulate it,
which are slower so than in float32; int8 without dot products of its own also overflows. So the instructions decide.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from deployment_toolkit.core import Precision
from deployment_toolkit.errors import DeviceError, ProcessError
from deployment_toolkit.process import run

_CPUINFO = Path("/proc/cpuinfo")
# Any of these flags of Linux will do: x86's and Arm's.
_INSTRUCTIONS = {
    Precision.BF16: ("avx512_bf16", "amx_bf16", "bf16"),
    Precision.INT8: ("avx512_vnni", "avx_vnni", "asimddp"),
}


def missing_instructions(precision: Precision) -> str:
    """What this CPU lacks for a precision, in a phrase; nothing if it lacks nothing."""
    wanted = _INSTRUCTIONS.get(precision)
    if wanted is None or not cpu_flags().isdisjoint(wanted):
        return ""
    return f"this CPU has no instructions for {precision} ({', '.join(wanted)})"


def require_precision(precision: Precision, what: str) -> None:
    """Raises DeviceError if this CPU has no instructions for a precision."""
    missing = missing_instructions(precision)
    if missing:
        raise DeviceError(f"{what}: {missing}, use fp32 here or a CPU that has them")


def widest_is_avx2() -> bool:
    """Whether this is a CPU with AVX2 and without AVX-512."""
    flags = cpu_flags()
    return "avx2" in flags and "avx512f" not in flags


def cpu_flags() -> frozenset[str]:
    """The instruction sets that Linux tells of; none where it does not."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return frozenset()
    told = (line.partition(":") for line in lines)
    return next(
        (frozenset(flags.split()) for key, _, flags in told if key.strip() in ("flags", "Features")), frozenset()
    )


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
