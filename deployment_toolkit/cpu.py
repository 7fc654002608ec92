"""What this machine's CPU computes with, and in which number formats by itself.

OpenVINO's own list (``OPTIMIZATION_CAPABILITIES``) names INT8 on every CPU, and BF16 on those that have to emulate it,
which are slower so than in float32; int8 without dot products of its own also overflows. So the instructions decide.
"""

from __future__ import annotations

from pathlib import Path

from deployment_toolkit.core import Precision
from deployment_toolkit.errors import DeviceError

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
