"""ONNX models in int8 for onnxruntime: a Wide & Deep network of a small size, and graphs made by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from deployment_toolkit.core import Array, Arrays, Format, Precision
from deployment_toolkit.errors import ConversionError, InputError, UsageError
from deployment_toolkit.library.onnx.in_precision import OnnxInPrecision
from deployment_toolkit.library.onnx.session import OnnxLoader
from deployment_toolkit.library.registry import converter
from deployment_toolkit.rows.sample import random_rows

OUTPUT = "wide_deep_model"


@pytest.fixture(scope="module")
def source(tiny_savedmodel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network as ONNX."""
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    converter(Format.TF_SAVEDMODEL, Format.ONNX)().convert(tiny_savedmodel, path)
    return path


@pytest.fixture(scope="module")
def x(source: Path) -> Arrays:
    rows = random_rows(OnnxLoader().read_spec(source), 600, seed=3)
    rows["price"] *= 50  # of another size than any embedding
    rows["tags"][:20] = -1
    return rows


@pytest.fixture(scope="module")
def batches(x: Arrays) -> list[Arrays]:
    return [{name: array[start::4].copy() for name, array in x.items()} for start in range(4)]


def convert(source: Path, target: Path, calibration: list[Arrays], **options: Any) -> Path:
    OnnxInPrecision(precision=Precision.INT8, calibration=calibration, **options).convert(source, target)
    return target


def noise(path: Path) -> float:
    return float(OnnxLoader().describe(path).split()[-1])


def executed(path: Path, folder: Path) -> Counter[str]:
    """The operations that onnxruntime runs after its optimizations."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def test_layers_and_tables_are_bytes_with_nearly_equal_answers(
    source: Path, x: Arrays, batches: list[Arrays], tmp_path: Path
) -> None:
    made = convert(source, tmp_path / "made.onnx", batches)
    assert OnnxLoader().precision(made) is Precision.INT8
    assert OnnxLoader().describe(made).startswith("hidden layers in int8, all of them, noise ")
    assert 0 < noise(made) < 0.002
    assert OnnxLoader().read_spec(made) == OnnxLoader().read_spec(source)
    before, after = executed(source, tmp_path), executed(made, tmp_path)
    assert after["MatMulIntegerToFloat"] == 2
    assert (
        after["MatMul"] + after["Gemm"] + after["FusedGemm"]
        == before["MatMul"] + before["Gemm"] + before["FusedGemm"] - 2
    )
    tables = {tensor.name: tensor for tensor in onnx.load(str(made)).graph.initializer}
    kinds = [tensor.data_type for name, tensor in tables.items() if "/int8/table_" in name]
    assert kinds == [TensorProto.UINT8, TensorProto.UINT8]  # lists are summed in float32
    exact = OnnxLoader().load(source).infer(x)[OUTPUT]
    answer = OnnxLoader().load(made).infer(x)[OUTPUT]
    assert 1e-6 < np.abs(answer - exact).max() < 0.05


def test_products_cannot_saturate_in_16_bits(source: Path, batches: list[Arrays], tmp_path: Path) -> None:
    made = onnx.load(str(convert(source, tmp_path / "made.onnx", batches)))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    products = [node for node in made.graph.node if node.op_type == "MatMulIntegerToFloat"]
    for product in products:
        integers = weights[product.input[1]]
        assert integers.dtype == np.int8
        assert 2 * 255 * np.abs(integers.astype(int)).max() < 2**15


def test_layers_with_too_much_noise_stay_in_float32(source: Path, batches: list[Arrays], tmp_path: Path) -> None:
    limit = noise(convert(source, tmp_path / "all.onnx", batches, max_noise=1.0)) * 0.9
    some = convert(source, tmp_path / "some.onnx", batches, max_noise=limit)
    assert executed(some, tmp_path)["MatMulIntegerToFloat"] == 1
    assert ", but for StatefulPartitionedCall/wide_deep/hidden_" in OnnxLoader().describe(some)
    assert noise(some) <= limit
    with pytest.raises(ConversionError, match="every layer alone makes a noise above 1e-12 .*: use fp32 or raise"):
        convert(source, tmp_path / "none.onnx", batches, max_noise=1e-12)
    assert not (tmp_path / "none.onnx").exists()


def test_rows_that_do_not_fit_are_refused(source: Path, batches: list[Arrays], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="int8 needs rows to calibrate on: give --calibration-data-pattern"):
        OnnxInPrecision(precision=Precision.INT8)
    with pytest.raises(UsageError, match="int8 needs two calibration batches or more, there are 1"):
        convert(source, tmp_path / "made.onnx", batches[:1])
    with pytest.raises(InputError, match="input ad holds id"):
        convert(source, tmp_path / "made.onnx", [batch | {"ad": batch["ad"] + 20} for batch in batches])


def save(path: Path, nodes: list[Any], widths: Mapping[str, int], constants: Mapping[str, Array]) -> Path:
    """A graph of inputs [B, width] in float32 with an output ``y``."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]) for name, width in widths.items()
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", None])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "by hand", inputs, [output], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


@pytest.mark.parametrize("width", [1, 4])
def test_columns_of_other_sizes_keep_their_part_in_the_answer(width: int, tmp_path: Path) -> None:
    """A column 10,000 times as large as the others would leave them one step of the rounding."""
    generator = np.random.default_rng(5)
    weights = generator.normal(0, 1, (8 + width, 32)).astype(np.float32)
    weights[8:] /= 1e4
    constants = {"w": weights, "v": generator.normal(0, 1, (32, 1)).astype(np.float32)}
    last = [helper.make_node("Relu", ["product"], ["hidden"]), helper.make_node("MatMul", ["hidden", "v"], ["y"])]
    widths = {"small": 8, "large": width}
    concat = helper.make_node("Concat", ["small", "large"], ["joined"], axis=1)
    product = helper.make_node("MatMul", ["joined", "w"], ["product"], "first")
    x = {name: generator.normal(0, 1, (800, size)).astype(np.float32) for name, size in widths.items()}
    x["large"] *= 1e4
    by_columns = save(tmp_path / "columns.onnx", [concat, product, *last], widths, constants)
    whole = save(
        tmp_path / "whole.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["product"], "first"), *last],
        {"x": 8 + width},
        constants,
    )
    joined = {"x": np.concatenate([x["small"], x["large"]], axis=1)}
    noises = [
        noise(
            convert(
                path,
                path.with_name(f"made_{path.name}"),
                [{n: a[s::2] for n, a in rows.items()} for s in (0, 1)],
                max_noise=10,
            )
        )
        for path, rows in ((by_columns, x), (whole, joined))
    ]
    assert noises[0] < 1e-3 < 0.1 < noises[1]


def test_gemm_with_transposed_weights_is_a_layer(tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    constants = {
        "w": generator.normal(0, 1, (16, 8)).astype(np.float32),
        "b": generator.normal(0, 1, 16).astype(np.float32),
        "v": generator.normal(0, 1, (16, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["sum"], "first", transB=1),
        helper.make_node("Relu", ["sum"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "v"], ["y"]),
    ]
    path = save(tmp_path / "gemm.onnx", nodes, {"x": 8}, constants)
    x = {"x": generator.normal(0, 1, (400, 8)).astype(np.float32)}
    made = convert(path, tmp_path / "made.onnx", [{"x": x["x"][::2]}, {"x": x["x"][1::2]}])
    assert executed(made, tmp_path) == {"QuantizeLinear": 1, "MatMulIntegerToFloat": 1, "Relu": 1, "MatMul": 1}
    exact, answer = (OnnxLoader().load(item).infer(x)["y"] for item in (path, made))
    assert np.abs(answer - exact).max() < 0.05 * np.abs(exact).max()


def test_model_without_a_layer_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "none.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": 3}, {})
    batch = {"x": np.ones((4, 3), np.float32)}
    with pytest.raises(
        ConversionError, match="int8: the model has no product of a batch with constant weights, use fp32"
    ):
        convert(path, tmp_path / "made.onnx", [batch, batch])
