"""Check of batch sizes at load: the Python host on the real server refuses models that are wrong in requests of one
size, in each format. The models themselves are checked without the server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from deployment_toolkit.core import Batching, Format, Host, ModelSpec, TensorSpec
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.loading import sample_row
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.errors import ServerError
from deployment_toolkit.library.openvino.session import OpenVinoFromOnnx
from deployment_toolkit.library.registry import loader
from deployment_toolkit.triton_inference_runner.base import open_session
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer

SPEC = ModelSpec(
    (TensorSpec("amount", "float32", (1,)), TensorSpec("item", "int32", (1,), (0, 9))),
    (TensorSpec("score", "float32", (1,)),),
)
FORMATS = (Format.ONNX, Format.OPENVINO, Format.TF_SAVEDMODEL)
MAX_BATCH_SIZE = 1000
WRONG_SIZE = 64
ERROR = 0.5
ROUNDING = 0.02


def write_onnx(path: Path, wrong_size: int, error: float = ERROR, error_dtype: str = "float32") -> Path:
    """Writes ``score = amount + item``, plus ``error``, a weight, in a request of ``wrong_size`` rows."""
    nodes = [
        helper.make_node("Cast", ["item"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["amount"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["rows"]),
        helper.make_node("Equal", ["rows", "wrong_size"], ["is_wrong"]),
        helper.make_node("Cast", ["weight"], ["error"], to=TensorProto.FLOAT),
        helper.make_node("Where", ["is_wrong", "error", "none"], ["added"]),
        helper.make_node("Sum", ["amount", "number", "added"], ["score"]),
    ]
    constants = {
        "first": np.array([0]),
        "wrong_size": np.array([wrong_size]),
        "weight": np.array([[error]], error_dtype),
        "none": np.array([[0]], np.float32),
    }
    types = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}
    values = [
        helper.make_tensor_value_info(tensor.name, types[tensor.dtype], ["batch", *tensor.shape])
        for tensor in (*SPEC.inputs, *SPEC.outputs)
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "one_size", values[:-1], values[-1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def write_savedmodel(path: Path, wrong_size: int) -> Path:
    """Writes the same model as a SavedModel."""
    signature = [tf.TensorSpec([None, 1], tensor.dtype, tensor.name) for tensor in SPEC.inputs]

    def serve(amount: tf.Tensor, item: tf.Tensor) -> dict[str, tf.Tensor]:
        added = tf.where(tf.equal(tf.shape(amount)[0], wrong_size), ERROR, 0.0)
        return {"score": amount + tf.cast(item, tf.float32) + added}

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=signature)
    tf.saved_model.save(module, str(path), signatures=module.serve)
    return path


def write(model_format: Format, folder: Path, wrong_size: int) -> Path:
    folder.mkdir(parents=True)
    if model_format is Format.TF_SAVEDMODEL:
        return write_savedmodel(folder / "model.savedmodel", wrong_size)
    source = write_onnx(folder / "model.onnx", wrong_size)
    if model_format is Format.ONNX:
        return source
    target = folder / "model.openvino"
    target.mkdir()
    OpenVinoFromOnnx().convert(source, target)
    return target


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """Server with these models: for each format a right one, one that is wrong in 64 rows, and one that is wrong in its
    largest batch; two that differ in 64 rows by as little as float16 may; and one that is wrong and not batched."""
    folder = tmp_path_factory.mktemp("sizes")
    for model_format in FORMATS:
        for name, wrong_size in (("right", 0), ("wrong", WRONG_SIZE), ("largest", MAX_BATCH_SIZE)):
            source = write(model_format, folder / f"{model_format}_{name}", wrong_size)
            batching = {"batching": Batching.DYNAMIC, "max_batch_size": MAX_BATCH_SIZE}
            add(folder, f"{model_format}_{name}", model_format, source, batching)
    for dtype in ("float32", "float16"):
        source = write_onnx(folder / f"{dtype}.onnx", WRONG_SIZE, ROUNDING, dtype)
        add(folder, dtype, Format.ONNX, source, {"batching": Batching.DYNAMIC, "max_batch_size": MAX_BATCH_SIZE})
    add(folder, "whole", Format.ONNX, folder / "onnx_wrong" / "model.onnx", {"batching": Batching.DISABLED})
    with local_server(folder / "repository", log_path=folder / "server.log") as running:
        yield running


def add(folder: Path, name: str, model_format: Format, source: Path, options: dict[str, object]) -> None:
    deployment = Deployment(name, SPEC, model_format, host=Host.PYTHON, **options)  # type: ignore[arg-type]
    add_model(folder / "repository", deployment, source)


def test_models_of_these_tests_are_wrong_in_one_size_only(tmp_path: Path) -> None:
    """The tests below depend on this."""
    for model_format in FORMATS:
        with loader(model_format)().load(write(model_format, tmp_path / model_format, WRONG_SIZE)) as session:
            for rows in (1, 63, 64, 65, 512):
                x = {"amount": np.full((rows, 1), 0.25, np.float32), "item": np.full((rows, 1), 3, np.int32)}
                (answer,) = set(session.infer(x)["score"].flat)
                assert answer == (3.75 if rows == WRONG_SIZE else 3.25)


@pytest.mark.parametrize("model_format", FORMATS)
def test_model_that_is_wrong_in_one_size_is_not_loaded(model_format: Format, server: TritonServer) -> None:
    server.load_model(f"{model_format}_right", timeout_s=120)
    with open_session(
        server.grpc_url,
        f"{model_format}_right",
        "1",
        synchronous=True,
        max_unresponded_requests=1,
        response_wait_time_s=30,
    ) as session:
        (prediction,) = session.predict([sample_row(SPEC)])
    assert prediction.y_pred["score"].tolist() == [[0]]
    assert server.log_path is not None
    told = r"the same rows in 2\d sizes of requests, up to 1000 rows, answered alike within .* in \d\.\d s"
    assert re.search(f"{model_format}_right_0_0: {told}", server.log_path.read_text())
    for name, size in (("wrong", WRONG_SIZE), ("largest", MAX_BATCH_SIZE)):
        with pytest.raises(ServerError) as caught:
            server.load_model(f"{model_format}_{name}", timeout_s=120)
        wanted = rf"requests of {size} rows are answered wrongly: output score of row \d+ differs by 0\.5 \("
        assert re.search(wanted, str(caught.value))
        assert re.search(r"\), allowed is 0\.000\d+; load it again", str(caught.value))
        with pytest.raises(ServerError):
            server.require_model(f"{model_format}_{name}", "1")


def test_model_without_batching_is_checked_too(server: TritonServer) -> None:
    with pytest.raises(ServerError, match="requests of 64 rows are answered wrongly"):
        server.load_model("whole", timeout_s=60)


def test_model_in_float16_has_a_larger_tolerance(server: TritonServer) -> None:
    server.load_model("float16", timeout_s=60)
    server.require_model("float16", "1")
    with pytest.raises(ServerError, match=r"requests of 64 rows are answered wrongly: .* differs by 0\.02 .*"):
        server.load_model("float32", timeout_s=60)
