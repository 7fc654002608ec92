from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deployment_toolkit import hardware
from deployment_toolkit.core import Array, Arrays, Batch, Format, ModelSpec, Precision, TensorSpec
from deployment_toolkit.errors import ConversionError, InputError, ModelError, UsageError
from deployment_toolkit.library.openvino.session import SLACK_BYTES, OpenVinoFromOnnx, OpenVinoLoader
from deployment_toolkit.library.registry import converter
from deployment_toolkit.library.tensorflow.session import SavedModelLoader
from deployment_toolkit.process import run
from deployment_toolkit.rows.sample import random_rows

TinyOnnx = Callable[..., Path]
X: Arrays = {
    "amount": np.array([[0.5], [1.5]], np.float32),
    "item": np.array([[2], [9]], np.int32),
    "tags": np.array([[-1, -1, -1], [4, 4, 1]], np.int32),
}


@pytest.fixture
def folder(tiny_onnx: TinyOnnx, tmp_path: Path) -> Path:
    OpenVinoFromOnnx().convert(tiny_onnx(tmp_path / "model.onnx"), tmp_path / "tiny.openvino")
    return tmp_path / "tiny.openvino"


@pytest.mark.parametrize(("precision", "atol"), [(Precision.FP32, 1e-5), (Precision.FP16, 1e-2)])
def test_openvino_folder_answers_like_its_source_savedmodel(
    tiny_savedmodel: Path, tmp_path: Path, precision: Precision, atol: float
) -> None:
    converter(Format.TF_SAVEDMODEL, Format.ONNX)().convert(tiny_savedmodel, tmp_path / "model.onnx")
    made = tmp_path / "made.openvino"
    converter(Format.ONNX, Format.OPENVINO)(precision=precision).convert(tmp_path / "model.onnx", made)
    assert sorted(path.name for path in made.iterdir()) == ["model.bin", "model.xml"]
    source = SavedModelLoader().load(tiny_savedmodel)
    with OpenVinoLoader(threads=1).load(made) as session:
        assert session.spec == source.spec == OpenVinoLoader().read_spec(made)
        for rows in (1, 7, 700):
            x = random_rows(source.spec, rows, seed=rows)
            x["tags"][0] = -1
            answer = session.infer(x)["wide_deep_model"]
            np.testing.assert_allclose(answer, source.infer(x)["wide_deep_model"], rtol=0, atol=atol)


def test_predictions_are_in_order_and_equal_single_inferences(folder: Path) -> None:
    with OpenVinoLoader(threads=1).load(folder) as session:
        sizes = [1, 700, 2, 3000, 5, 1]
        batches = [Batch(np.arange(rows), random_rows(session.spec, rows, seed=rows)) for rows in sizes]
        predictions = list(session.predict(iter(batches)))
        assert [prediction.batch for prediction in predictions] == batches
        for batch, prediction in zip(batches, predictions, strict=True):
            np.testing.assert_equal(prediction.y_pred, session.infer(batch.x))
        assert list(session.predict(iter([]))) == []


def test_a_batch_that_fails_and_dropped_predictions_leave_the_engine_free(folder: Path) -> None:
    def batches(amounts: list[Array]) -> Iterator[Batch]:
        for amount in amounts:
            yield Batch(np.arange(2), {**X, "amount": amount})

    with OpenVinoLoader(threads=1).load(folder) as session:
        wanted = session.infer(X)
        right, wrong = X["amount"], X["amount"].astype(np.float64)
        predictions = session.predict(batches([right, right, right, wrong]))
        for _ in range(2):
            np.testing.assert_equal(next(predictions).y_pred, wanted)
        with pytest.raises(InputError, match="amount"):
            next(predictions)
        abandoned = session.predict(batches([right, right, right]))
        next(abandoned)
        del abandoned
        np.testing.assert_equal(session.infer(X), wanted)


def test_fp16_halves_the_weights(tiny_savedmodel: Path, tmp_path: Path) -> None:
    converter(Format.TF_SAVEDMODEL, Format.ONNX)().convert(tiny_savedmodel, tmp_path / "model.onnx")
    sizes = []
    for precision in (Precision.FP32, Precision.FP16):
        OpenVinoFromOnnx(precision=precision).convert(tmp_path / "model.onnx", tmp_path / str(precision))
        constants = re.findall(
            r'offset="(\d+)"[^>]* size="(\d+)"', (tmp_path / str(precision) / "model.xml").read_text()
        )
        sizes.append(max(int(offset) + int(size) for offset, size in constants))
        assert (tmp_path / str(precision) / "model.bin").stat().st_size == sizes[-1] + SLACK_BYTES
    assert sizes[1] < 0.6 * sizes[0]


def test_fp32_arithmetic_is_kept_on_a_cpu_with_bfloat16(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).normal(0, 1, (512, 64)).astype(np.float32)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in {"x": 512, "y": 64}.items()
    ]
    nodes = [helper.make_node("MatMul", ["x", "weights"], ["y"])]
    graph = helper.make_graph(nodes, "product", values[:1], values[1:], [numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "product.onnx"))
    OpenVinoFromOnnx().convert(tmp_path / "product.onnx", tmp_path / "product.openvino")
    x = np.random.default_rng(2).normal(0, 1, (64, 512)).astype(np.float32)
    answer = OpenVinoLoader().load(tmp_path / "product.openvino").infer({"x": x})["y"]
    np.testing.assert_allclose(answer, x @ weights, rtol=0, atol=1e-3)  # bfloat16 is off by 0.1


@pytest.mark.parametrize(("flags", "kind"), [("avx2", "Maximum"), ("avx2 avx512f", "ReLU"), ("asimd", "ReLU")])
def test_activations_are_separate_operations_on_a_cpu_with_avx2_only(
    tiny_savedmodel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, kind: str
) -> None:
    (tmp_path / "mock_cpuinfo").write_text(f"flags : {flags}\n")
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "mock_cpuinfo")
    converter(Format.TF_SAVEDMODEL, Format.ONNX)().convert(tiny_savedmodel, tmp_path / "model.onnx")
    OpenVinoFromOnnx().convert(tmp_path / "model.onnx", tmp_path / "made")
    kinds = re.findall(r'type="(ReLU|Maximum)"', (tmp_path / "made" / "model.xml").read_text())
    assert kinds.count(kind) == 2, "the tiny network has two hidden layers"
    source = SavedModelLoader().load(tiny_savedmodel)
    x = random_rows(source.spec, 64, seed=1)
    answer = OpenVinoLoader().load(tmp_path / "made").infer(x)["wide_deep_model"]
    np.testing.assert_allclose(answer, source.infer(x)["wide_deep_model"], rtol=0, atol=1e-5)


def test_answers_are_copies_and_inputs_have_any_layout(folder: Path) -> None:
    with OpenVinoLoader().load(folder) as session:
        first = session.infer(X)["score"]
        twice = {name: np.repeat(array, 2, axis=0)[::2] for name, array in X.items()}
        twice["tags"] = np.asfortranarray(twice["tags"])
        twice["amount"].setflags(write=False)
        second = session.infer(twice)["score"]
        session.infer(X | {"amount": X["amount"] + 100})
    assert first.tolist() == second.tolist() == [[17.5], [100.5]]


def test_value_ranges_are_kept_in_a_copied_model(folder: Path, tmp_path: Path) -> None:
    converter(Format.OPENVINO, Format.OPENVINO)().convert(folder, tmp_path / "copy.openvino")
    shutil.rmtree(folder)
    for path in (tmp_path / "copy.openvino", tmp_path / "copy.openvino" / "model.xml"):
        with OpenVinoLoader().load(path) as session:
            assert session.spec.value_ranges == {"item": (0, 9), "tags": (-1, 4)}
            with pytest.raises(InputError, match=r"input item holds id 10, outside 0 \.\. 9"):
                session.infer(X | {"item": np.array([[0], [10]], np.int32)})


def test_foreign_file_has_no_value_ranges_and_free_sizes(tmp_path: Path) -> None:
    names = {"x": ["batch", "length", 2], "y": ["batch", None, 2]}
    values = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in names.items()]
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "absolute", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "a.onnx")
    OpenVinoFromOnnx().convert(tmp_path / "a.onnx", tmp_path / "a")
    with OpenVinoLoader().load(tmp_path / "a") as session:
        assert session.spec == ModelSpec((TensorSpec("x", "int64", (-1, 2)),), (TensorSpec("y", "int64", (-1, 2)),))
        for length in (1, 5):
            answer = session.infer({"x": np.full((3, length, 2), -1, np.int64)})["y"]
            assert answer.shape == (3, length, 2) and answer.dtype == np.int64 and answer.min() == 1


def test_missing_or_damaged_model_is_reported(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none is no OpenVINO model \(there is no .*none/model\.xml\): convert"):
        OpenVinoLoader().load(tmp_path / "none")
    (folder / "model.xml").write_text("<net")
    with pytest.raises(ModelError, match=r"model\.xml can't be read by OpenVINO 2026\.4\.1:"):
        OpenVinoLoader().load(folder)
    (folder / "model.bin").unlink()
    with pytest.raises(ModelError, match=r"there is no .*model\.bin"):
        OpenVinoLoader().read_spec(folder)


def test_onnx_file_that_cannot_be_converted_is_reported(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1]) for name in "xy"]
    node = helper.make_node("Nonsense", ["x"], ["y"], domain="unknown")
    graph = helper.make_graph([node], "nonsense", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("unknown", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "nonsense.onnx")
    with pytest.raises(ConversionError, match=r"(?s)OpenVINO 2026\.4\.1 can't convert .*unknown\.Nonsense"):
        OpenVinoFromOnnx().convert(tmp_path / "nonsense.onnx", tmp_path / "made")
    with pytest.raises(ModelError, match="there is no ONNX file at"):
        OpenVinoFromOnnx().convert(tmp_path / "none.onnx", tmp_path / "made")
    with pytest.raises(UsageError, match="openvino has no weights of tf32: use fp32, fp16, bf16, int8"):
        OpenVinoFromOnnx(precision=Precision.TF32)
    assert not (tmp_path / "made").exists()


def test_interrupt_after_several_models_is_raised_once(folder: Path, tmp_path: Path) -> None:
    program = f"""if True:
        import signal
        from pathlib import Path
        from deployment_toolkit.library.openvino.session import OpenVinoLoader
        for _ in range(3):
            first, second = (OpenVinoLoader().load(Path({str(folder)!r})) for _ in range(2))
            del first, second
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print("interrupted")"""
    assert run([sys.executable, "-c", program], log_path=tmp_path / "log", timeout_s=60).stdout == "interrupted\n"


@pytest.mark.parametrize("threads", [1, 2])
def test_failed_inference_is_raised_with_any_number_of_threads(tmp_path: Path, threads: int) -> None:
    """With one thread, the engine's inference in the caller's thread would return the answers of the batch before."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])  # good for width 1 only
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", None])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])
    graph = helper.make_graph([node], "one", [x], [y], [numpy_helper.from_array(np.array([0, 1]), "shape")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "m.onnx")
    OpenVinoFromOnnx().convert(tmp_path / "m.onnx", tmp_path / "made")
    good = np.array([[1], [2]], np.float32)
    with OpenVinoLoader(threads=threads).load(tmp_path / "made") as session:
        np.testing.assert_array_equal(session.infer({"x": good})["y"], good)
        with pytest.raises(ModelError, match=r"can't answer these rows: .*shape of input data"):
            session.infer({"x": np.ones((2, 2), np.float32)})
        np.testing.assert_array_equal(session.infer({"x": 3 * good})["y"], 3 * good)
