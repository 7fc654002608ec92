from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from deployment_toolkit.core import Precision
from deployment_toolkit.errors import ConversionError, DeploymentError, ModelError, UsageError
from deployment_toolkit.library.shape_profile import ShapeProfile
from deployment_toolkit.library.tensorrt.builder import TensorRTFromOnnx
from tests.deployment_toolkit.library.conftest import PROFILES
from tests.deployment_toolkit.library.mock_cuda import MockDriver
from tests.deployment_toolkit.library.mock_tensorrt import (
    BuilderFlag,
    MemoryPoolType,
    MockTensorRT,
)
from tests.deployment_toolkit.library.mock_tensorrt_engine import DataType


def flags(mock: MockTensorRT) -> set[BuilderFlag]:
    _, config = mock.mock_built[-1]
    return config.mock_flags


@pytest.mark.parametrize(
    ("precisions", "wanted"),
    [
        ((Precision.FP32,), set()),
        ((Precision.TF32,), {BuilderFlag.TF32}),
        ((Precision.FP16,), {BuilderFlag.FP16}),
        ((Precision.TF32, Precision.FP16), {BuilderFlag.TF32, BuilderFlag.FP16}),
    ],
)
def test_precisions_set_the_builder_flags(
    precisions: tuple[Precision, ...], wanted: set[BuilderFlag], source: Path, mock: MockTensorRT, tmp_path: Path
) -> None:
    TensorRTFromOnnx(precisions=precisions, profiles=PROFILES).convert(source, tmp_path / "made")
    assert flags(mock) == wanted
    network, config = mock.mock_built[-1]
    assert network.flags == 0
    assert config.mock_pools == {MemoryPoolType.WORKSPACE: 4 * 1024**3}
    (profile,) = config.mock_profiles
    assert profile.mock_shapes == {name: [told.min, told.opt, told.max] for name, told in PROFILES.items()}


def test_sparse_weights_and_workspace_reach_the_builder(source: Path, mock: MockTensorRT, tmp_path: Path) -> None:
    made = TensorRTFromOnnx(sparse_weights=True, max_workspace_size_bytes=2**20, profiles=PROFILES)
    made.convert(source, tmp_path / "made")
    assert flags(mock) == {BuilderFlag.SPARSE_WEIGHTS}
    assert mock.mock_built[-1][1].mock_pools == {MemoryPoolType.WORKSPACE: 2**20}


@pytest.mark.parametrize(("precision", "dtype"), [(Precision.FP16, DataType.HALF), (Precision.FP32, DataType.FLOAT)])
def test_strict_types_set_the_precision_of_computing_layers(
    precision: Precision, dtype: DataType, source: Path, mock: MockTensorRT, tmp_path: Path
) -> None:
    TensorRTFromOnnx(precisions=(precision,), strict_types=True, profiles=PROFILES).convert(source, tmp_path / "made")
    assert BuilderFlag.OBEY_PRECISION_CONSTRAINTS in flags(mock)
    layers = {layer.get_output(0).name: layer for layer in mock.mock_built[-1][0].mock_layers}
    bound = {name: layer.mock_output_types for name, layer in layers.items() if hasattr(layer, "precision")}
    # Not the cast of the ids; and the network still answers what it did.
    assert bound == {"looked_up": {0: dtype}, "tag_sum": {0: dtype}, "score": {}}
    assert {layers[name].precision for name in bound} == {dtype}


def test_explicit_precision_makes_a_strongly_typed_network(source: Path, mock: MockTensorRT, tmp_path: Path) -> None:
    precisions = (Precision.FP16, Precision.TF32)
    TensorRTFromOnnx(precisions=precisions, explicit_precision=True, profiles=PROFILES).convert(
        source, tmp_path / "made"
    )
    assert (mock.mock_built[-1][0].flags, flags(mock)) == (1 << 1, {BuilderFlag.TF32})


def test_int8_needs_a_quantised_file(source: Path, mock: MockTensorRT, tmp_path: Path) -> None:
    asked = TensorRTFromOnnx(precisions=(Precision.INT8, Precision.FP16), profiles=PROFILES)
    with pytest.raises(
        ConversionError, match=r"model\.onnx has no QuantizeLinear node: quantise it first, or use fp16"
    ):
        asked.convert(source, tmp_path / "made")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    scale = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("zero", TensorProto.INT8, [], [0]),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "quantised", values[:1], values[1:], scale)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "q.onnx")
    profiles = {"x": ShapeProfile((1, 4), (1, 4), (1, 4))}
    TensorRTFromOnnx(precisions=(Precision.INT8,), profiles=profiles).convert(tmp_path / "q.onnx", tmp_path / "made")
    assert flags(mock) == {BuilderFlag.INT8}


@pytest.mark.parametrize(
    ("profiles", "error", "message"),
    [
        ({"item": None}, UsageError, r"input item is \[-1, 1\]: it needs a shape profile"),
        ({"other": ShapeProfile((1,), (1,), (1,))}, UsageError, "given for other, which is no input"),
        ({"tags": ShapeProfile((1, 3), (1, 4), (1, 4))}, UsageError, r"shape \[1, 4\] .* tags does not fit \[-1, 3\]"),
        ({"tags": ShapeProfile((1,), (1,), (1,))}, UsageError, r"shape \[1\] .* does not fit \[-1, 3\]"),
        ({"tags": ShapeProfile((1, 3), (1, 3), (2**18, 3))}, ConversionError, "takes no such shape profiles"),
    ],
)
def test_profiles_that_do_not_fit_are_refused(
    profiles: dict[str, ShapeProfile],
    error: type[DeploymentError],
    message: str,
    source: Path,
    mock: MockTensorRT,
    driver: MockDriver,
    tmp_path: Path,
) -> None:
    asked = {name: profile for name, profile in (PROFILES | profiles).items() if profile is not None}
    with pytest.raises(error, match=message):
        TensorRTFromOnnx(profiles=asked).convert(source, tmp_path / "made")
    assert not (tmp_path / "made").exists() and driver.live == {}


def test_tensorrt_errors_are_reported_with_their_message(source: Path, mock: MockTensorRT, tmp_path: Path) -> None:
    asked = TensorRTFromOnnx(max_workspace_size_bytes=1, profiles=PROFILES)
    with pytest.raises(
        ConversionError, match=r"TensorRT 10\.13\.0\.35 can't build a plan of .*: Could not find any imple"
    ):
        asked.convert(source, tmp_path / "made")
    model = onnx.load(str(source))
    model.graph.node.append(helper.make_node("Nonsense", ["score"], ["z"], name="the_node", domain="unknown"))
    model.opset_import.append(helper.make_opsetid("unknown", 1))
    onnx.save(model, str(tmp_path / "unknown.onnx"))
    with pytest.raises(ConversionError, match=r"can't read .*unknown\.onnx: Nonsense the_node: no importer registered"):
        TensorRTFromOnnx(profiles=PROFILES).convert(tmp_path / "unknown.onnx", tmp_path / "made")
    (tmp_path / "broken.onnx").write_bytes(b"this is no ONNX")
    for name, message in {"broken.onnx": "is no ONNX file", "none.onnx": "there is no ONNX file"}.items():
        with pytest.raises(ModelError, match=message):
            TensorRTFromOnnx(profiles=PROFILES).convert(tmp_path / name, tmp_path / "made")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precisions": ()}, "at least one precision"),
        ({"explicit_precision": True, "strict_types": True}, "leave out strict types"),
        ({"max_workspace_size_bytes": 0}, "workspace of 0 bytes: use 1 or more"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TensorRTFromOnnx(**options, profiles=PROFILES)
