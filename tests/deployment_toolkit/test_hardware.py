from __future__ import annotations

from pathlib import Path

import pytest

from deployment_toolkit import hardware
from deployment_toolkit.core import Precision
from deployment_toolkit.errors import DeviceError
from deployment_toolkit.hardware import cpu_flags, missing_instructions, require_precision


def mock_cpuinfo(monkeypatch: pytest.MonkeyPatch, path: Path, flags: str) -> None:
    path.write_text(f"processor\t: 0\nmodel name\t: mock CPU\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    monkeypatch.setattr(hardware, "_CPUINFO", path)


def test_precision_that_the_cpu_lacks_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mock_cpuinfo(monkeypatch, tmp_path / "cpuinfo", "fpu sse4_2 avx512f avx512_vnni")
    assert missing_instructions(Precision.INT8) == missing_instructions(Precision.FP32) == ""
    assert missing_instructions(Precision.BF16) == (
        "this CPU has no instructions for bf16 (avx512_bf16, amx_bf16, bf16)"
    )
    with pytest.raises(DeviceError, match=r"^a test: this CPU has no .*, use fp32 here or a CPU that has them$"):
        require_precision(Precision.BF16, "a test")


def test_cpu_flags_are_read_from_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cpu_flags()  # of this machine
    mock_cpuinfo(monkeypatch, tmp_path / "cpuinfo", "avx2 bf16")
    assert cpu_flags() == {"avx2", "bf16"}
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "none")
    assert cpu_flags() == frozenset()
