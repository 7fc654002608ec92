"""Real OpenVINO on a tiny Wide & Deep network: the simplified graph, bf16, int8."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from deployment_toolkit import hardware
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Arrays, Format, Precision
from deployment_toolkit.errors import ConversionError, DeviceError, InputError, ModelError, UsageError
from deployment_toolkit.hardware import missing_instructions
from deployment_toolkit.library.openvino import session
from deployment_toolkit.library.openvino.graph import simplify
from deployment_toolkit.library.openvino.session import OpenVinoFromOnnx, OpenVinoLoader
from deployment_toolkit.library.registry import converter
from deployment_toolkit.library.tensorflow.session import SavedModelLoader
from deployment_toolkit.process import environment, run
from deployment_toolkit.rows.sample import random_rows

OUTPUT = "wide_deep_model"


def require(precision: Precision) -> None:
    if missing_instructions(precision):
        pytest.skip(missing_instructions(precision))


@pytest.fixture(scope="module")
def source(tiny_savedmodel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network as ONNX."""
    path = tmp_path_factory.mktemp("openvino") / "model.onnx"
    converter(Format.TF_SAVEDMODEL, Format.ONNX)().convert(tiny_savedmodel, path)
    return path


@pytest.fixture(scope="module")
def x(tiny_savedmodel: Path) -> Arrays:
    rows = random_rows(SavedModelLoader().read_spec(tiny_savedmodel), 600, seed=3)
    rows["price"] *= 50  # of another size than any embedding
    rows["tags"][:20] = -1
    return rows


@pytest.fixture(scope="module")
def exact(tiny_savedmodel: Path, x: Arrays) -> Any:
    return SavedModelLoader().load(tiny_savedmodel).infer(x)[OUTPUT]


@pytest.fixture(scope="module")
def batches(x: Arrays) -> list[Arrays]:
    return [{name: array[start::4].copy() for name, array in x.items()} for start in range(4)]


def convert(source: Path, target: Path, precision: Precision, **options: Any) -> Path:
    OpenVinoFromOnnx(precision=precision, **options).convert(source, target)
    return target


def nodes(path: Path) -> list[Any]:
    return list(openvino.Core().read_model(str(path / "model.xml")).get_ordered_ops())


def kinds(path: Path) -> list[str]:
    return [node.get_type_name() for node in nodes(path)]


def test_simplified_graph_has_fewer_operations_and_the_same_answers(
    source: Path, x: Arrays, exact: Any, tmp_path: Path
) -> None:
    made = convert(source, tmp_path / "made", Precision.FP32)
    core = openvino.Core()
    before = [node.get_type_name() for node in core.read_model(str(source)).get_ordered_ops()]
    after = kinds(made)
    assert before.count("Slice") > after.count("Slice") == 0
    assert before.count("ReduceSum") == 2 > after.count("ReduceSum") == 0
    # A lookup each for the deep half's three tables, one of them of lists, and one for all of the wide half.
    assert (before.count("Gather"), after.count("Gather"), after.count("EmbeddingBagPackedSum")) == (6, 2, 2)
    loaded = OpenVinoLoader().load(made)
    assert loaded.spec == OpenVinoLoader().read_spec(made)
    assert [tensor.name for tensor in loaded.spec.inputs] == sorted(x)
    np.testing.assert_allclose(loaded.infer(x)[OUTPUT], exact, rtol=0, atol=1e-6)


def test_graph_without_these_patterns_is_unchanged(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    constants = [
        numpy_helper.from_array(np.array(value), name) for name, value in {"a": [0], "b": [2], "c": [1]}.items()
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["x", "a", "b", "c"], ["part"]),  # half of the columns
            helper.make_node("Concat", ["part", "part"], ["y"], axis=1),
        ],
        "slices",
        values[:1],
        values[1:],
        constants,
    )
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), str(tmp_path / "slices.onnx"))
    model = openvino.Core().read_model(str(tmp_path / "slices.onnx"))
    simplify(model)
    left = [node.get_type_name() for node in model.get_ordered_ops() if node.get_type_name() != "Constant"]
    assert left == ["Parameter", "Slice", "Concat", "Result"]


def test_bf16_file_is_computed_in_bf16(source: Path, x: Arrays, exact: Any, tmp_path: Path) -> None:
    require(Precision.BF16)
    made = convert(source, tmp_path / "made", Precision.BF16)
    assert OpenVinoLoader().precision(made) is Precision.BF16
    answer = OpenVinoLoader().load(made).infer(x)[OUTPUT]
    difference = np.abs(answer - exact).max()
    assert 1e-6 < difference < 0.05  # float32 is below, see above
    xml = made / "model.xml"
    text = xml.read_text()
    xml.write_text(text.replace('<precision value="bf16"', '<precision value="fp9"'))
    assert xml.read_text() != text
    with pytest.raises(ModelError, match="asks for precision 'fp9', known are fp32, fp16, bf16, int8: convert it anew"):
        OpenVinoLoader().load(made)


def test_tables_stored_in_bf16_answer_as_tables_that_are_rounded_when_read(
    source: Path, x: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(Precision.BF16)
    made = convert(source, tmp_path / "made", Precision.BF16)
    tables = {node.get_type_name(): node.input_value(0) for node in nodes(made) if is_lookup(node)}
    assert {kind: table.get_element_type().get_type_name() for kind, table in tables.items()} == {
        "Gather": "bf16",
        "EmbeddingBagPackedSum": "f32",
    }
    monkeypatch.setattr(session, "store_tables_in_bf16", lambda model: None)
    wide = convert(source, tmp_path / "wide", Precision.BF16)
    for rows in (1, 7, 600):
        few = {name: array[:rows] for name, array in x.items()}
        one, other = (OpenVinoLoader().load(folder).infer(few)[OUTPUT] for folder in (made, wide))
        np.testing.assert_array_equal(one, other)


def is_lookup(node: Any) -> bool:
    return node.get_type_name() in ("Gather", "EmbeddingBagPackedSum")


def test_int8_tables_and_layers_are_bytes_with_nearly_equal_answers(
    source: Path, x: Arrays, exact: Any, batches: list[Arrays], tmp_path: Path
) -> None:
    require(Precision.INT8)
    made = convert(source, tmp_path / "made", Precision.INT8, calibration=batches)
    assert OpenVinoLoader().precision(made) is Precision.INT8
    assert OpenVinoLoader().describe(made).startswith("hidden layers in int8, all of them, noise ")
    tables = [node.input_value(0) for node in nodes(made) if node.get_type_name() == "Gather"]
    assert [table.get_element_type().get_type_name() for table in tables] == ["i8", "i8"]
    assert quantized(made) == ["hidden_0", "hidden_1"]
    answer = OpenVinoLoader().load(made).infer(x)[OUTPUT]
    assert 1e-6 < np.abs(answer - exact).max() < 0.05
    assert OpenVinoLoader().read_spec(made).value_ranges == {"ad": (0, 19), "tags": (-1, 6), "zone": (0, 5)}


def quantized(path: Path) -> list[str]:
    """Names of the hidden layers with integer weights."""
    products = [node for node in nodes(path) if node.get_type_name() == "MatMul"]
    found = []
    for product in products:
        weights = product.input_value(1).get_node()
        if weights.get_type_name() == "Multiply":
            packed = weights.input_value(0).get_node().input_value(0)
            assert packed.get_element_type().get_type_name() == "i8"
            found.append(product.get_friendly_name().split("/")[-2])
    return found


def test_layers_with_too_much_noise_stay_in_higher_precision(
    source: Path, batches: list[Arrays], tmp_path: Path
) -> None:
    require(Precision.INT8)
    made = convert(source, tmp_path / "all", Precision.INT8, calibration=batches, max_noise=1.0)
    noise = float(OpenVinoLoader().describe(made).split()[-1])
    some = convert(source, tmp_path / "some", Precision.INT8, calibration=batches, max_noise=noise * 0.9)
    assert len(quantized(some)) == 1
    (kept,) = {"hidden_0", "hidden_1"} - set(quantized(some))
    assert f"but for StatefulPartitionedCall/wide_deep/{kept}/MatMul, noise" in OpenVinoLoader().describe(some)
    with pytest.raises(ConversionError, match="int8: every layer alone makes a noise above 1e-12"):
        convert(source, tmp_path / "none", Precision.INT8, calibration=batches, max_noise=1e-12)
    assert not (tmp_path / "none").exists()


def test_int8_without_valid_calibration_rows_is_refused(source: Path, batches: list[Arrays], tmp_path: Path) -> None:
    require(Precision.INT8)
    with pytest.raises(UsageError, match="int8 needs rows to calibrate on: give --calibration-data-pattern"):
        OpenVinoFromOnnx(precision=Precision.INT8)
    with pytest.raises(UsageError, match="int8 needs two calibration batches or more, there are 1"):
        convert(source, tmp_path / "made", Precision.INT8, calibration=batches[:1])
    outside = [batch | {"ad": batch["ad"] + 20} for batch in batches]
    with pytest.raises(InputError, match="input ad holds id"):
        convert(source, tmp_path / "made", Precision.INT8, calibration=outside)


def test_cpu_without_the_instructions_is_reported(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(Precision.BF16)
    made = convert(source, tmp_path / "made", Precision.BF16)
    (tmp_path / "mock_cpuinfo").write_text("flags : sse2\n")
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "mock_cpuinfo")
    with pytest.raises(DeviceError, match=r"made can't run here: this CPU has no instructions for bf16 .*use fp32"):
        OpenVinoLoader().load(made)
    with pytest.raises(DeviceError, match="a conversion to bf16: this CPU has no instructions"):
        convert(source, tmp_path / "other", Precision.BF16)


def test_import_reports_nothing_and_starts_no_thread(tmp_path: Path) -> None:
    program = (
        "import deployment_toolkit.library.openvino.session, sys, threading, openvino.tools.ovc; "
        "print([one.name for one in threading.enumerate()], sys.modules['openvino_telemetry'])"
    )
    done = run(
        [sys.executable, "-c", program], env=environment(prepend={"PYTHONPATH": [ROOT]}), log_path=tmp_path / "log"
    )
    assert done.stdout.strip() == "['MainThread'] None"
