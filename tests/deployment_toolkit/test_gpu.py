from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployment_toolkit.errors import DeviceError
from deployment_toolkit.hardware import gpu_descriptions, gpu_names, require_gpu
from runner.report.system_info import read_system_info


@pytest.fixture
def mock_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A mock of ``nvidia-smi``, first on the PATH, for machines without a GPU."""
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    yield program


def _write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_gpu_names_come_from_the_driver(mock_driver: Path) -> None:
    _write(mock_driver, 'echo "NVIDIA A30"; echo "Tesla T4"')
    assert gpu_names() == require_gpu("a test") == ["NVIDIA A30", "Tesla T4"]


def test_system_info_describes_the_gpus(mock_driver: Path) -> None:
    _write(
        mock_driver, '[ "$1" = --query-gpu=name,memory.total,driver_version ] && echo "NVIDIA A30, 24576 MiB, 580.1"'
    )
    assert gpu_descriptions() == ["NVIDIA A30, 24576 MiB, 580.1"]
    assert read_system_info().summary.endswith("; GPU NVIDIA A30, 24576 MiB, 580.1")


@pytest.mark.parametrize("script", ["exit 9", "true"])
def test_missing_gpu_error_names_the_part_that_needs_it(mock_driver: Path, script: str) -> None:
    _write(mock_driver, script)
    assert gpu_names() == []
    with pytest.raises(DeviceError, match=r"TensorRT needs an NVIDIA GPU .* none \(nvidia-smi\)"):
        require_gpu("TensorRT")
