from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from deployment_toolkit.core import Format, ModelSpec, Precision
from deployment_toolkit.errors import ConversionError, ModelError, UsageError
from deployment_toolkit.library.onnx.in_precision import OnnxInPrecision
from deployment_toolkit.library.onnx.session import OnnxLoader
from deployment_toolkit.library.registry import converter
from deployment_toolkit.rows.sample import random_rows

TinyOnnx = Callable[..., Path]
WIDE = 512


@pytest.fixture(scope="module")
def exported(tiny_savedmodel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    converter(Format.TF_SAVEDMODEL, Format.ONNX)().convert(tiny_savedmodel, path)
    return path


def to_half(source: Path) -> Path:
    target = source.with_name("half.onnx")
    OnnxInPrecision(precision=Precision.FP16).convert(source, target)
    return target


def dtypes(path: Path) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in onnx.load(str(path)).graph.initializer}


def test_fp16_network_has_the_same_signature_and_nearly_equal_answers(exported: Path) -> None:
    half = to_half(exported)
    with OnnxLoader().load(exported) as whole_session, OnnxLoader().load(half) as half_session:
        assert half_session.spec == whole_session.spec
        assert half_session.spec.value_ranges["tags"] == (-1, 6)
        x = random_rows(whole_session.spec, 1000, seed=1)
        (answer,) = whole_session.infer(x).values()
        (on_cpu,) = half_session.infer(x).values()
    (by_hand,) = ReferenceEvaluator(str(half)).run(None, x)  # every step in float16, which the CPU's provider may skip
    for candidate in (on_cpu, by_hand):
        assert candidate.dtype == np.float32
        assert 0 < np.abs(candidate - answer).max() < 2e-4


def test_precision_of_a_file_is_its_narrowest_dtype(exported: Path, tmp_path: Path) -> None:
    assert OnnxLoader().precision(exported) is Precision.FP32
    assert OnnxLoader().precision(to_half(exported)) is Precision.FP16
    model = onnx.load(str(exported))
    model.graph.node.add(op_type="DynamicQuantizeLinear", input=["a"], output=["b", "c", "d"])
    onnx.save(model, str(tmp_path / "quantized.onnx"))
    assert OnnxLoader().precision(tmp_path / "quantized.onnx") is Precision.INT8
    (tmp_path / "none.onnx").write_text("this is no ONNX")
    with pytest.raises(ModelError, match="is no ONNX file"):
        OnnxLoader().precision(tmp_path / "none.onnx")


def test_fp16_weights_exclude_the_wide_tables_and_the_logits(exported: Path) -> None:
    graph = onnx.load(str(to_half(exported))).graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kinds = {
        (node.op_type, weights[name].dims[1] == 1): weights[name].data_type
        for node in graph.node
        for name in node.input
        if node.op_type in ("Gather", "MatMul") and name in weights
    }
    assert kinds == {
        ("Gather", False): TensorProto.FLOAT16,
        ("Gather", True): TensorProto.FLOAT,  # the wide part's tables
        ("MatMul", False): TensorProto.FLOAT16,
        ("MatMul", True): TensorProto.FLOAT16,
    }
    nodes = graph.node
    (sigmoid,) = (node for node in nodes if node.op_type == "Sigmoid")
    assert list(sigmoid.output) == ["wide_deep_model"]
    (logits,) = (node for node in nodes if node.output[0] == sigmoid.input[0])
    assert logits.op_type == "Add", "the logits are rounded to float16 before the sigmoid"


def test_fp16_file_has_half_the_size_and_keeps_its_names(tmp_path: Path) -> None:
    table = numpy_helper.from_array(np.random.default_rng(1).normal(0, 1, (WIDE, WIDE)).astype(np.float32), "table")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDE])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDE])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "table"], ["y"])], "product", [x], [y], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model.metadata_props.add(key="origin", value="here")
    source = tmp_path / "model.onnx"
    onnx.save(model, str(source))
    half = to_half(source)
    assert half.stat().st_size == pytest.approx(source.stat().st_size / 2, rel=0.01)
    assert dtypes(half) == {"table": TensorProto.FLOAT16}
    assert {entry.key: entry.value for entry in onnx.load(str(half)).metadata_props} == {"origin": "here"}


def test_graph_without_a_matrix_product_is_converted_completely(tmp_path: Path, tiny_onnx: TinyOnnx) -> None:
    source = tiny_onnx(tmp_path / "model.onnx")
    half = to_half(source)
    assert dtypes(half)["table"] == TensorProto.FLOAT16
    spec: ModelSpec = OnnxLoader().read_spec(half)
    assert spec == OnnxLoader().read_spec(source)
    x = random_rows(spec, 100, seed=2)
    expected = OnnxLoader().load(source).infer(x)["score"]
    np.testing.assert_allclose(OnnxLoader().load(half).infer(x)["score"], expected, rtol=2e-3)


def test_fp32_is_a_copy_of_the_exported_file(exported: Path, tmp_path: Path) -> None:
    OnnxInPrecision().convert(exported, tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == exported.read_bytes()


def test_file_that_cannot_become_fp16_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="onnx has no weights of bf16: use int8, fp16, fp32"):
        OnnxInPrecision(precision=Precision.BF16)
    source = tmp_path / "model.onnx"
    with pytest.raises(ModelError, match=r"there is no ONNX file at .*model\.onnx"):
        to_half(source)
    source.write_bytes(b"this is no ONNX")
    with pytest.raises(ModelError, match=r"model\.onnx is no ONNX file"):
        to_half(source)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "nowhere"], ["y"])], "broken", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(source))
    with pytest.raises(ConversionError, match=r"model\.onnx can't be converted to fp16: .*nowhere"):
        to_half(source)
