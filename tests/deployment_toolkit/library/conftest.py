from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deployment_toolkit.core import Precision
from deployment_toolkit.library.shape_profile import ShapeProfile
from deployment_toolkit.library.tensorrt.builder import TensorRTFromOnnx
from tests.deployment_toolkit.library.mock_cuda import MockDriver
from tests.deployment_toolkit.library.mock_tensorrt import (
    MockTensorRT,
    mock_gpu_host,
)

TinyOnnx = Callable[..., Path]
PROFILES = {
    name: ShapeProfile((1, size), (8, size), (16, size)) for name, size in {"amount": 1, "item": 1, "tags": 3}.items()
}


@pytest.fixture
def mock(monkeypatch: pytest.MonkeyPatch) -> MockTensorRT:
    """A machine with a GPU, its driver and TensorRT, all of them mocks."""
    return mock_gpu_host(monkeypatch)


@pytest.fixture
def driver(mock: MockTensorRT) -> MockDriver:
    return mock.mock_driver


@pytest.fixture
def source(tiny_onnx: TinyOnnx, tmp_path: Path) -> Path:
    return tiny_onnx(tmp_path / "model.onnx")


@pytest.fixture
def plan(source: Path, mock: MockTensorRT, tmp_path: Path) -> Path:
    TensorRTFromOnnx(precisions=(Precision.FP16,), profiles=PROFILES).convert(source, tmp_path / "model.plan")
    return tmp_path / "model.plan"
