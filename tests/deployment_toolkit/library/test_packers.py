"""Packed copies of models, one kind of file after the other, answer bit for bit as the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import export_model
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Arrays, Batch, Format, ModelSpec, Precision, TensorSpec
from deployment_toolkit.errors import UsageError
from deployment_toolkit.hardware import missing_instructions
from deployment_toolkit.library.openvino.session import SLACK_BYTES, OpenVinoFromOnnx, OpenVinoLoader
from deployment_toolkit.library.registry import converter, loader, packer
from deployment_toolkit.packing import pack, packed_spec
from deployment_toolkit.rows.sample import random_rows
from widedeep.features.spec import OUTPUT_NAME, Feature, FeatureSpec

# Inputs of many kinds: of two types of ids, flat ones, pictures, and one with the name of a packed input.
INPUTS = (
    TensorSpec("numerical_features", "float32", (2,)),
    TensorSpec("amount", "float32", (1,)),
    TensorSpec("picture", "float32", (2, 2)),
    TensorSpec("item", "int64", (1,), (0, 9)),
    TensorSpec("shelf", "int32", (), (0, 4)),
    TensorSpec("tags", "int32", (3,), (-1, 4)),
)
MIXED = ModelSpec(INPUTS, (TensorSpec("score", "float32", (1,)),))


@pytest.fixture(scope="module")
def tiny_file(tiny_savedmodel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network as ONNX."""
    path = tmp_path_factory.mktemp("packers") / "model.onnx"
    converter(Format.TF_SAVEDMODEL, Format.ONNX)().convert(tiny_savedmodel, path)
    return path


def write_mixed(path: Path, opset: int, *, stored: bool = True) -> Path:
    """An ONNX file with ``INPUTS``; their own concatenation is not in the order of their names."""
    nodes = [
        helper.make_node("Concat", ["numerical_features", "amount"], ["numbers"], axis=1),
        helper.make_node("MatMul", ["numbers", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["picture"], ["pixels"], axes=[1, 2], keepdims=0),
        helper.make_node("Unsqueeze", ["pixels"], ["pixel_sum"], axes=[1]),
        helper.make_node("Gather", ["table", "item"], ["item_weight"]),
        helper.make_node("Gather", ["table", "shelf"], ["shelf_flat"]),
        helper.make_node("Unsqueeze", ["shelf_flat"], ["shelf_weight"], axes=[1]),
        helper.make_node("Cast", ["tags"], ["tag_numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["tag_numbers"], ["tag_mean"], axes=[1], keepdims=1),
        helper.make_node(
            "Sum", ["weighted", "pixel_sum", "item_weight", "shelf_weight", "tag_mean"], ["score"]
        ),
    ]  # fmt: skip
    if opset >= 13:  # axes of a sum and of new dimensions became inputs
        for node in nodes:
            if node.op_type in ("ReduceSum", "Unsqueeze"):
                axes = next(item for item in node.attribute if item.name == "axes")
                node.attribute.remove(axes)
                node.input.append("axes_12" if node.op_type == "ReduceSum" else "axes_1")
    generator = np.random.default_rng(5)
    weights = {
        "weights": generator.normal(size=(3, 1)).astype(np.float32),
        "table": generator.normal(size=10).astype(np.float32),
        "axes_12": np.array([1, 2]),
        "axes_1": np.array([1]),
    }
    values = [
        helper.make_tensor_value_info(
            tensor.name, helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)), ["rows", *tensor.shape]
        )
        for tensor in (*MIXED.inputs, *MIXED.outputs)
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "mixed", values[:-1], values[-1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model.metadata_props.add(key="maker", value="somebody")
    if stored:
        model.metadata_props.add(key="model_spec", value=json.dumps(MIXED.to_dict()))
    onnx.save(model, str(path))
    return path


def require_same_answers(model_format: Format, source: Path, target: Path) -> ModelSpec:
    """Packs the model and compares both on batches of several sizes; returns the packed signature."""
    packer(model_format)().convert(source, target)
    load = loader(model_format)()
    assert load.precision(target) == load.precision(source)
    with load.load(source) as given, load.load(target) as packed:
        assert packed.spec == packed_spec(given.spec) == load.read_spec(target)
        assert packed.spec != given.spec
        for rows in (1, 2, 7, 64):
            x: Arrays = random_rows(given.spec, rows, seed=rows)
            for name, (low, _) in given.spec.value_ranges.items():
                if low == -1:
                    x[name][0] = -1
            answer = packed.infer(pack(x, packed.spec))
            for name, expected in given.infer(x).items():
                assert expected.dtype == answer[name].dtype
                np.testing.assert_array_equal(answer[name], expected)
        spec: ModelSpec = packed.spec
        return spec


@pytest.mark.parametrize("seed", range(3))
def test_networks_of_random_features_answer_alike(seed: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(seed)
    numbers, ids, lists = generator.integers([0, 1, 0], [6, 5, 4]).tolist()
    spec = FeatureSpec(
        numerical=tuple(Feature(f"f{number * 7 % 5}_number", "float32") for number in range(numbers)),
        onehot=tuple(
            Feature(f"f{number * 7 % 5}_id", "int32", int(generator.integers(2, 99))) for number in range(ids)
        ),
        multihot=tuple(
            Feature(f"f{number}_list", "int32", int(generator.integers(2, 99)), int(generator.integers(1, 6)))
            for number in range(lists)
        ),
        label=Feature("clicked", "int32"),
        group_id=Feature("display_id", "int32"),
    )
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    options = ["--input-path", str(ROOT / "model.py"), "--input-type", "tf-keras", "--precision", "fp32"]
    options += ["--feature-spec", str(tmp_path / "spec.yaml"), "--deep-hidden-units", "8"]
    source = tmp_path / "exported.onnx"
    export_model.main([*options, "--output-path", str(source), "--output-type", "onnx"])
    require_same_answers(Format.ONNX, source, tmp_path / "packed.onnx")
    OpenVinoFromOnnx().convert(source, tmp_path / "made.openvino")
    require_same_answers(Format.OPENVINO, tmp_path / "made.openvino", tmp_path / "packed.openvino")


def test_savedmodel_answers_alike(tiny_savedmodel: Path, tmp_path: Path) -> None:
    require_same_answers(Format.TF_SAVEDMODEL, tiny_savedmodel, tmp_path / "packed.savedmodel")


def test_onnx_file_answers_alike_and_joins_its_numbers_once(tiny_file: Path, tmp_path: Path) -> None:
    require_same_answers(Format.ONNX, tiny_file, tmp_path / "packed.onnx")
    graph = onnx.load(str(tmp_path / "packed.onnx")).graph
    assert [node.op_type for node in graph.node if "numerical_features" in node.input] == ["Split", "Identity"]


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_onnx_file_with_inputs_of_many_kinds_answers_alike(opset: int, tmp_path: Path) -> None:
    source = write_mixed(tmp_path / "mixed.onnx", opset)
    require_same_answers(Format.ONNX, source, tmp_path / "packed.onnx")
    model = onnx.load(str(tmp_path / "packed.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key for entry in model.metadata_props} == {"maker", "model_spec"}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "rows"


def test_onnx_file_gets_the_weights_of_its_second_file(tmp_path: Path) -> None:
    source = write_mixed(tmp_path / "mixed.onnx", 13)
    onnx.save(
        onnx.load(str(source)), str(source), save_as_external_data=True, location="mixed.onnx.data", size_threshold=60
    )
    target = tmp_path / "elsewhere" / "packed.onnx"
    target.parent.mkdir()
    require_same_answers(Format.ONNX, source, target)
    assert [path.name for path in target.parent.iterdir()] == ["packed.onnx"]


def test_onnx_file_without_ranges_of_int64_is_refused(tmp_path: Path) -> None:
    source = write_mixed(tmp_path / "mixed.onnx", 13, stored=False)
    with pytest.raises(UsageError, match="input item can't be packed: it holds int64"):
        packer(Format.ONNX)().convert(source, tmp_path / "packed.onnx")
    assert not (tmp_path / "packed.onnx").exists()


def test_openvino_folder_with_inputs_of_many_kinds_answers_alike(tmp_path: Path) -> None:
    OpenVinoFromOnnx().convert(write_mixed(tmp_path / "mixed.onnx", 13), tmp_path / "mixed.openvino")
    require_same_answers(Format.OPENVINO, tmp_path / "mixed.openvino", tmp_path / "packed.openvino")


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8])
def test_openvino_folder_keeps_arithmetic_and_answers_alike(
    precision: Precision, tiny_file: Path, tmp_path: Path, tiny_savedmodel: Path
) -> None:
    if missing_instructions(precision):
        pytest.skip(missing_instructions(precision))
    options: dict[str, Any] = {}
    if precision is Precision.INT8:
        spec = loader(Format.ONNX)().read_spec(tiny_file)
        options = {"calibration": [random_rows(spec, 500, seed) for seed in range(4)], "max_noise": 1.0}
    source, target = tmp_path / "made.openvino", tmp_path / "packed.openvino"
    OpenVinoFromOnnx(precision=precision, **options).convert(tiny_file, source)
    require_same_answers(Format.OPENVINO, source, target)
    assert OpenVinoLoader().describe(target) == OpenVinoLoader().describe(source)
    sizes = [(folder / "model.bin").stat().st_size for folder in (source, target)]
    assert sizes[1] < sizes[0] + 1024  # float16 weights stay float16
    assert (target / "model.bin").read_bytes()[-SLACK_BYTES:] == bytes(SLACK_BYTES)


def test_packed_file_is_run_by_the_rows_of_its_original(tiny_file: Path, tmp_path: Path) -> None:
    spec = require_same_answers(Format.ONNX, tiny_file, tmp_path / "packed.onnx")
    x = random_rows(spec.unpacked, 5, seed=1)
    with loader(Format.ONNX)().load(tmp_path / "packed.onnx") as session:
        (prediction,) = session.predict(iter([Batch(np.arange(5), x)]))
        assert prediction.batch.x is x and prediction.y_pred[OUTPUT_NAME].shape == (5, 1)


def test_packed_onnx_file_becomes_a_packed_openvino_folder(tiny_file: Path, tmp_path: Path) -> None:
    packer(Format.ONNX)().convert(tiny_file, tmp_path / "packed.onnx")
    OpenVinoFromOnnx().convert(tmp_path / "packed.onnx", tmp_path / "packed.openvino")
    assert OpenVinoLoader().read_spec(tmp_path / "packed.openvino") == packed_spec(
        loader(Format.ONNX)().read_spec(tiny_file)
    )


def test_format_that_can_not_be_changed_is_refused() -> None:
    with pytest.raises(UsageError, match="inputs of trt can't be packed: supported are tf-savedmodel, onnx, openvino"):
        packer(Format.TRT)
