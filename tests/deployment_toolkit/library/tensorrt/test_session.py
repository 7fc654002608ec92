from __future__ import annotations

import ctypes
import enum
import inspect
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from deployment_toolkit import hardware
from deployment_toolkit.core import Arrays, Format, ModelSpec, TensorSpec
from deployment_toolkit.errors import DataError, DeviceError, InputError, ModelError, UsageError
from deployment_toolkit.library.registry import converter, loader
from deployment_toolkit.library.shape_profile import ShapeProfile
from deployment_toolkit.library.tensorflow.session import SavedModelLoader
from deployment_toolkit.library.tensorrt.builder import TensorRTFromOnnx
from deployment_toolkit.library.tensorrt.plan import PlanBuild, plan_build
from deployment_toolkit.library.tensorrt.session import TensorRTLoader
from deployment_toolkit.rows.sample import random_rows
from tests.deployment_toolkit.library.conftest import PROFILES
from tests.deployment_toolkit.library.mock_cuda import MockDriver
from tests.deployment_toolkit.library.mock_tensorrt import (
    MockTensorRT,
    write_plan_of,
)
from tests.deployment_toolkit.library.mock_tensorrt_engine import ICudaEngine

API = Path(__file__).parent / "api.yaml"
X: Arrays = {
    "amount": np.array([[0.5], [1.5]], np.float32),
    "item": np.array([[2], [9]], np.int32),
    "tags": np.array([[-1, -1, -1], [4, 4, 1]], np.int32),
}


def test_mock_has_only_names_of_tensorrt(mock: MockTensorRT) -> None:
    api = yaml.safe_load(API.read_text())
    assert api["version"] == mock.__version__
    names = {
        name for name in (*vars(mock), *vars(MockTensorRT)) if name.islower() and not name.startswith(("mock_", "_"))
    }
    assert names <= set(api["module"])
    for mocked in mock.mock_classes():
        real = api["classes"][mocked.__name__]
        members = [item.name for item in mocked] if issubclass(mocked, enum.Enum) else list(vars(mocked))
        for name in (name for name in members if not name.startswith(("_", "mock_"))):
            function = inspect.getattr_static(mocked, name)
            if inspect.isfunction(function):
                taken = " ".join(list(inspect.signature(function).parameters)[1:])
                assert taken in real["methods"][name], f"{mocked.__name__}.{name}({taken})"
            else:
                assert name in real["attributes"], f"{mocked.__name__}.{name}"


def test_plan_answers_like_its_source_savedmodel(
    tiny_savedmodel: Path, mock: MockTensorRT, driver: MockDriver, tmp_path: Path
) -> None:
    reference = SavedModelLoader().load(tiny_savedmodel)
    converter(Format.TF_SAVEDMODEL, Format.ONNX)().convert(tiny_savedmodel, tmp_path / "model.onnx")
    profiles = {
        tensor.name: ShapeProfile((1, *tensor.shape), (64, *tensor.shape), (700, *tensor.shape))
        for tensor in reference.spec.inputs
    }
    converter(Format.ONNX, Format.TRT)(profiles=profiles).convert(tmp_path / "model.onnx", tmp_path / "made.plan")
    converter(Format.TRT, Format.TRT)().convert(tmp_path / "made.plan", tmp_path / "copy.plan")
    shutil.rmtree(tmp_path / "made.plan")
    assert loader(Format.TRT)().read_spec(tmp_path / "copy.plan") == reference.spec
    with loader(Format.TRT)().load(tmp_path / "copy.plan") as session:
        assert session.spec == reference.spec
        for rows in (3, 700, 1, 64):
            x = random_rows(reference.spec, rows, seed=rows)
            x["tags"][0] = -1
            x["price"] = np.asfortranarray(x["price"])
            answer = session.infer(x)["wide_deep_model"]
            np.testing.assert_allclose(answer, reference.infer(x)["wide_deep_model"], rtol=0, atol=1e-6)
        assert len(driver.live) == 6, "a buffer for each tensor, kept between batches"
        with pytest.raises(InputError, match="holds id"):
            session.infer(x | {"ad": np.full_like(x["ad"], 20)})
    assert driver.live == {}


def test_plan_folder_names_the_tensorrt_version_and_gpu(plan: Path) -> None:
    assert sorted(path.name for path in plan.iterdir()) == ["build.yaml", "model.plan", "model_spec.yaml"]
    assert plan_build(plan) == PlanBuild("10.13.0.35", "Mock A30", ("fp16",))
    assert TensorRTLoader().read_spec(plan).value_ranges == {"item": (0, 9), "tags": (-1, 4)}


def test_damaged_build_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "build.yaml").write_text("tensorrt: 10.13.0.35\ngpu: Mock A30\n")
    with pytest.raises(DataError, match=r"build\.yaml.*: a plan's build lacks precisions: convert the model again"):
        plan_build(tmp_path)


def test_plan_needs_a_gpu_to_build_and_to_load(plan: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpu_names", lambda: [])
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(DeviceError, match="a TensorRT plan needs an NVIDIA GPU and this machine shows none"):
        TensorRTLoader().load(plan)
    with pytest.raises(DeviceError, match="building a TensorRT plan needs an NVIDIA GPU"):
        TensorRTFromOnnx(profiles=PROFILES).convert(source, plan.parent / "made")


def test_missing_tensorrt_10_is_reported_with_its_package(
    plan: Path, source: Path, mock: MockTensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    for act in (lambda: TensorRTLoader().load(plan), lambda: TensorRTFromOnnx(profiles=PROFILES).convert(source, plan)):
        with pytest.raises(ModelError, match=r"can't be imported .*pip install 'tensorrt-cu12>=10\.0,<11'") as failure:
            act()
        assert "\n" not in str(failure.value)
    monkeypatch.setitem(sys.modules, "tensorrt", MockTensorRT(mock.mock_driver, "11.4.0.1"))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"TensorRT 11\.4\.0\.1 is installed, this needs 10\.x"):
        TensorRTLoader().load(plan)


@pytest.mark.parametrize(("version", "device"), [("10.9.0.34", "Mock A30"), ("10.13.0.35", "Mock T4")])
def test_plan_of_another_tensorrt_version_or_gpu_is_refused(
    version: str, device: str, plan: Path, mock: MockTensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    mock.__version__ = version
    monkeypatch.setattr(mock.mock_driver, "_device_name", device)
    with pytest.raises(ModelError) as failure:
        TensorRTLoader().load(plan)
    assert str(failure.value).endswith(
        f"was built by TensorRT 10.13.0.35 on Mock A30 and can't be loaded by TensorRT {version} on {device}: "
        "convert the model there again"
    )
    assert mock.mock_loads == 0


def test_foreign_plan_has_a_signature_on_a_gpu_host_only(
    source: Path, mock: MockTensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "other.plan"
    write_plan_of(path, source.read_bytes(), {name: [told.min, told.opt, told.max] for name, told in PROFILES.items()})
    with TensorRTLoader().load(path) as session:
        assert session.infer(X)["score"].tolist() == [[17.5], [100.5]]
    assert TensorRTLoader().read_spec(path) == ModelSpec(
        (TensorSpec("amount", "float32", (1,)), TensorSpec("item", "int32", (1,)), TensorSpec("tags", "int32", (3,))),
        (TensorSpec("score", "float32", (1,)),),
    )
    monkeypatch.setattr(hardware, "gpu_names", lambda: [])
    with pytest.raises(ModelError, match=r"other\.plan .*does not tell its signature: give --inputs and --outputs"):
        TensorRTLoader().read_spec(path)


def test_batch_outside_the_shape_profile_is_refused(plan: Path, mock: MockTensorRT) -> None:
    with TensorRTLoader().load(plan) as session:
        many = {name: np.repeat(array, 9, axis=0) for name, array in X.items()}
        with pytest.raises(InputError, match=r"has shape \[18, 1\], the plan was built for \[1, 1\] \.\. \[16, 1\]"):
            session.infer(many)
        assert session.infer(X)["score"].tolist() == [[17.5], [100.5]]


def test_missing_or_damaged_plan_is_reported(
    plan: Path, mock: MockTensorRT, driver: MockDriver, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"there is no TensorRT plan at .*none: convert the model first"):
        TensorRTLoader().load(tmp_path / "none")
    (plan / "model.plan").write_bytes(b"something else")
    with pytest.raises(ModelError, match=r"can't be loaded by TensorRT 10\.13\.0\.35 on Mock A30: magicTagRead"):
        TensorRTLoader().load(plan)
    assert driver.live == {}
    with pytest.raises(UsageError, match="a TensorRT plan runs on a GPU and takes no --threads"):
        TensorRTLoader(threads=1)


def test_full_gpu_memory_is_reported(
    plan: Path, mock: MockTensorRT, driver: MockDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TensorRTLoader().load(plan) as session:
        monkeypatch.setattr(driver, "_memory_bytes", 20)
        with pytest.raises(DeviceError, match=r"cuMemAlloc_v2 failed on the GPU: out of memory \(2\)"):
            session.infer(X)
    assert driver.live == {}
    monkeypatch.setattr(ICudaEngine, "mock_gpu_is_full", True)
    with pytest.raises(DeviceError, match="can't be run on Mock A30, probably for want of GPU memory"):
        TensorRTLoader().load(plan)


@pytest.mark.parametrize("dtype", [TensorProto.INT64, TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_tensors_keep_their_dtypes(dtype: int, mock: MockTensorRT, tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, dtype, ["batch", 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "x.onnx")
    asked = TensorRTFromOnnx(profiles={"x": ShapeProfile((1, 2), (2, 2), (4, 2))})
    if dtype == TensorProto.BFLOAT16:
        with pytest.raises(ModelError, match="tensor x is of type"):
            asked.convert(tmp_path / "x.onnx", tmp_path / "made")
        return
    asked.convert(tmp_path / "x.onnx", tmp_path / "made")
    with TensorRTLoader().load(tmp_path / "made") as session:
        x = np.array([[-1, 7], [2, 3], [4, 5]], session.spec.inputs[0].dtype)
        answer = session.infer({"x": x})["y"]
    assert answer.dtype == x.dtype and answer.tolist() == x.tolist()


def test_missing_nvidia_driver_is_reported(plan: Path, mock: MockTensorRT, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *args: Any) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(DeviceError, match=r"the NVIDIA driver's libcuda\.so\.1 can't be loaded: .*cannot open"):
        TensorRTLoader().load(plan)
