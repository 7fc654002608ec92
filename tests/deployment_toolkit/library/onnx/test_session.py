from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from deployment_toolkit.core import Arrays, ModelSpec, TensorSpec
from deployment_toolkit.errors import DeviceError, InputError, ModelError
from deployment_toolkit.library.onnx.session import OnnxLoader
from tests.deployment_toolkit.library.mock_onnx_gpu import MOCK_CUDA, MockCudaProvider, mock_available_cuda

TinyOnnx = Callable[..., Path]
X: Arrays = {
    "amount": np.array([[0.5], [1.5]], np.float32),
    "item": np.array([[2], [9]], np.int32),
    "tags": np.array([[-1, -1, -1], [4, 4, 1]], np.int32),
}
SPEC = ModelSpec(
    inputs=(
        TensorSpec("amount", "float32", (1,)),
        TensorSpec("item", "int32", (1,), (0, 9)),
        TensorSpec("tags", "int32", (3,), (-1, 4)),
    ),
    outputs=(TensorSpec("score", "float32", (1,)),),
)


@pytest.mark.parametrize("threads", [None, 1])
def test_onnx_file_answers_and_has_value_ranges(tmp_path: Path, tiny_onnx: TinyOnnx, threads: int | None) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    assert OnnxLoader().read_spec(path) == SPEC
    with OnnxLoader(threads=threads).load(path) as session:
        assert session.spec == SPEC
        assert session.infer(X)["score"].tolist() == [[17.5], [100.5]]
        with pytest.raises(InputError, match=r"input item holds id 10, outside 0 \.\. 9"):
            session.infer(X | {"item": np.array([[0], [10]], np.int32)})


def test_foreign_file_has_no_value_ranges_and_free_sizes(tmp_path: Path) -> None:
    names = {"x": ["batch", "length", 2], "y": ["batch", None, 2]}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in names.items()]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "model.onnx"))
    with OnnxLoader().load(tmp_path / "model.onnx") as session:
        assert session.spec.inputs == (TensorSpec("x", "float32", (-1, 2)),)
        for length in (1, 5):
            assert session.infer({"x": np.full((3, length, 2), -1, np.float32)})["y"].shape == (3, length, 2)


def test_missing_or_damaged_onnx_file_is_reported(tmp_path: Path, tiny_onnx: TinyOnnx) -> None:
    with pytest.raises(ModelError, match=r"there is no ONNX file at .*model\.onnx: convert the model first"):
        OnnxLoader().load(tmp_path / "model.onnx")
    whole = tiny_onnx(tmp_path / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"model\.onnx can't be loaded by onnxruntime"):
        OnnxLoader().load(tmp_path / "model.onnx")


def test_tensor_of_an_unsupported_type_is_named(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.STRING, ["batch", 1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "text", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(ModelError, match=r"tensor x is of type tensor\(string\)"):
        OnnxLoader().read_spec(tmp_path / "model.onnx")


def test_gpu_is_chosen_by_its_index(tmp_path: Path, tiny_onnx: TinyOnnx, monkeypatch: pytest.MonkeyPatch) -> None:
    mock = MockCudaProvider(monkeypatch)
    with OnnxLoader(threads=1, device=3).load(tiny_onnx(tmp_path / "model.onnx")) as session:
        assert session.spec == SPEC
        assert session.infer(X)["score"].tolist() == [[17.5], [100.5]]
    assert mock.told["device_id"] == "3"
    assert mock.told["use_tf32"] == "0"


@pytest.mark.skipif(MOCK_CUDA in onnxruntime.get_available_providers(), reason="this is the onnxruntime for GPUs")
def test_onnxruntime_for_cpus_refuses_a_gpu(tmp_path: Path, tiny_onnx: TinyOnnx) -> None:
    with pytest.raises(DeviceError, match=r"can't run on GPU 0: .* one for the CPU, .* scripts/install\.sh --gpu"):
        OnnxLoader(device=0).load(tiny_onnx(tmp_path / "model.onnx"))


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_session_on_a_gpu_does_not_fall_back_to_the_cpu(
    tmp_path: Path, tiny_onnx: TinyOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime falls back, with a warning: this test uses a real session."""
    mock_available_cuda(monkeypatch)
    with pytest.raises(DeviceError, match=r"GPU 1 \(.*driver 580 or newer .* CUDA 13, .* scripts/install\.sh --gpu"):
        OnnxLoader(device=1).load(tiny_onnx(tmp_path / "model.onnx"))


def test_gpu_failure_is_reported_with_its_message(
    tmp_path: Path, tiny_onnx: TinyOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    MockCudaProvider(
        monkeypatch, "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=0"
    )
    with pytest.raises(
        DeviceError, match=r"GPU 0 \(CUDA failure 35: CUDA driver version is insufficient.*580 or newer"
    ):
        OnnxLoader(device=0).load(path)
