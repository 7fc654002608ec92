"""Device of an instance of the Python host. The tests give the server's arguments themselves: no server starts an
instance on a missing GPU (tests/navigator/test_triton_config_model.py)."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deployment_toolkit.core import Array, Batching, DeviceKind, Format, Host
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_config import config_text, parse_config
from deployment_toolkit.library.registry import loader
from tests.deployment_toolkit.library.mock_onnx_gpu import MockCudaProvider

Write = Callable[..., Path]
HOST = "deployment_toolkit.python_host"
TENSORS = ("deployment_toolkit.python_backend", "deployment_toolkit.python_backend.tensors")


class MockTensor:
    """A mock of the backend's tensor."""

    backend: MockBackendUtils

    def __init__(self, name: str, array: Array) -> None:
        self._name, self.array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Array:
        return self.array

    @classmethod
    def from_dlpack(cls, name: str, capsule: Any) -> MockTensor:
        array = np.from_dlpack(SimpleNamespace(__dlpack__=lambda **_: capsule, __dlpack_device__=lambda: (1, 0)))
        return cls(name, cls.backend.mock_way(array).copy())


class MockBackendUtils(ModuleType):
    """A mock of the module ``triton_python_backend_utils``, which exists only in the backend's processes."""

    def __init__(self) -> None:
        super().__init__("triton_python_backend_utils")
        self.mock_log: list[str] = []
        self.Logger = SimpleNamespace(log_info=self.mock_log.append)
        self.TritonModelException = type("TritonModelException", (Exception,), {})
        self.mock_way: Callable[[Array], Array] = lambda array: array  # what becomes of numbers on their way
        self.Tensor = MockTensor
        self.mock_strings = [b"ad", "señal".encode(), b"", b"a\0b"]
        self.deserialize_bytes_tensor = lambda _: np.array(self.mock_strings, np.object_)
        MockTensor.backend = self
        self.InferenceResponse = lambda tensors: SimpleNamespace(tensors=tensors)


@pytest.fixture
def mock_backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockBackendUtils]:
    mock = MockBackendUtils()
    monkeypatch.setitem(sys.modules, mock.__name__, mock)
    yield mock
    for name in (HOST, *TENSORS):
        sys.modules.pop(name, None)


@pytest.fixture
def arguments(tiny_onnx: Write, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Arguments that the server passes to an instance of an ONNX model."""
    source = tmp_path / "model" / "1" / "model.onnx"
    source.parent.mkdir(parents=True)
    spec = loader(Format.ONNX)().read_spec(tiny_onnx(source))
    engines = {DeviceKind.GPU: 2}
    deployment = Deployment(
        "model", spec, Format.ONNX, host=Host.PYTHON, batching=Batching.DYNAMIC, engine_count_per_device=engines
    )
    parsed = parse_config(config_text(deployment))
    parameters = {key: {"string_value": value.string_value} for key, value in parsed.parameters.items()}
    config: dict[str, Any] = {"parameters": parameters, "instance_group": [{"count": 2, "kind": "KIND_GPU"}]}
    config["max_batch_size"] = parsed.max_batch_size

    def make(kind: str, device: str, **changed: str) -> dict[str, str]:
        for key, value in changed.items():
            config["parameters"][key] = {"string_value": value}
        return {
            "model_config": json.dumps(config),
            "model_repository": str(tmp_path / "model"),
            "model_version": "1",
            "model_instance_name": "model_0_0",
            "model_instance_kind": kind,
            "model_instance_device_id": device,
        }

    return make


def new_model() -> Any:
    return importlib.import_module(HOST).TritonPythonModel()


def test_instance_on_a_gpu_runs_there(
    arguments: Callable[..., dict[str, str]], mock_backend: MockBackendUtils, monkeypatch: pytest.MonkeyPatch
) -> None:
    mock = MockCudaProvider(monkeypatch)
    model = new_model()
    model.initialize(arguments("GPU", "1"))
    assert mock.told["device_id"] == "1"
    assert mock_backend.mock_log[1] == "model_0_0: model.onnx on GPU 1"
    x = {"amount": np.array([[0.5]], np.float32), "item": np.array([[2]], np.int32), "tags": np.zeros((1, 3), np.int32)}
    tensors = [MockTensor(name, array) for name, array in x.items()]
    (response,) = model.execute([SimpleNamespace(inputs=lambda: tensors)])
    assert response.tensors[0].array.tolist() == [[20.5]]
    model.finalize()


def test_instance_on_the_cpu_uses_no_gpu(
    arguments: Callable[..., dict[str, str]], mock_backend: MockBackendUtils
) -> None:
    new_model().initialize(arguments("CPU", "0", threads="2"))
    assert mock_backend.mock_log[1] == "model_0_0: model.onnx with 2 threads"


@pytest.mark.parametrize(
    ("way", "told"),
    [
        (lambda array: np.full_like(array, array.flat[0]), "bool numbers"),
        (lambda array: array if array.dtype != np.float16 else array * 2, "float16 numbers"),
        (lambda array: array.astype(np.int32) if array.dtype == np.int64 else array, "int64 numbers"),
        (lambda array: array.ravel(), "bool numbers"),
    ],
)
def test_instance_fails_where_the_backend_changes_rows(
    way: Callable[[Array], Array],
    told: str,
    arguments: Callable[..., dict[str, str]],
    mock_backend: MockBackendUtils,
) -> None:
    mock_backend.mock_way = way
    with pytest.raises(mock_backend.TritonModelException, match=rf"changes {told} on their way .* --host cpp"):
        new_model().initialize(arguments("CPU", "0"))


def test_instance_fails_where_the_backend_changes_strings(
    arguments: Callable[..., dict[str, str]], mock_backend: MockBackendUtils
) -> None:
    mock_backend.mock_strings[2] = b"x"
    with pytest.raises(mock_backend.TritonModelException, match="changes strings on their way"):
        new_model().initialize(arguments("CPU", "0"))


def test_instance_on_an_unavailable_gpu_fails(
    arguments: Callable[..., dict[str, str]], mock_backend: MockBackendUtils, monkeypatch: pytest.MonkeyPatch
) -> None:
    MockCudaProvider(monkeypatch, "CUDA failure 100: no CUDA-capable device is detected")
    with pytest.raises(mock_backend.TritonModelException, match=r"no CUDA-capable device .* scripts/install\.sh --gpu"):
        new_model().initialize(arguments("GPU", "0"))
    with pytest.raises(mock_backend.TritonModelException, match="the Python host runs openvino on a cpu only"):
        new_model().initialize(arguments("GPU", "0", model_format="openvino"))
