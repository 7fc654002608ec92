"""CPU of this machine, with the number formats that it has instructions for, and NVIDIA GPUs.

OpenVINO's list (``OPTIMIZATION_CAPABILITIES``) names INT8 on every CPU, and BF16 also on CPUs that emulate it, which is
slower than float32. Int8 on a CPU without int8 dot products also overflows. So the instructions decide.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from deployment_toolkit.core import Precision
from deployment_toolkit.errors import DeviceError, ProcessError
from deployment_toolkit.process import run

_CPUINFO = Path("/proc/cpuinfo")
# Flags of Linux for x86 and Arm; one of them is enough.
_INSTRUCTIONS = {
    Precision.BF16: ("avx512_bf16", "amx_bf16", "bf16"),
    Precision.INT8: ("avx512_vnni", "avx_vnni", "asimddp"),
}


def missing_instructions(precision: Precision) -> str:
    """Phrase that says what this CPU lacks for a precision; empty if it lacks nothing."""
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
    """True if this CPU has AVX2 and no AVX-512."""
    flags = cpu_flags()
    return "avx2" in flags and "avx512f" not in flags


def cpu_flags() -> frozenset[str]:
    """Instruction sets of the CPU that Linux lists; empty if it lists none."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return frozenset()
    pairs = (line.partition(":") for line in lines)
    return next(
        (frozenset(flags.split()) for key, _, flags in pairs if key.strip() in ("flags", "Features")), frozenset()
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
    """Names of the GPUs. Raises DeviceError, which says that ``what`` needs a GPU, if there is none."""
    names = gpu_names()
    if not names:
        raise DeviceError(
            f"{what} needs an NVIDIA GPU and this machine shows none (nvidia-smi): run it on a GPU host, or use a "
            "format and a device kind for the CPU"
        )
    return names
