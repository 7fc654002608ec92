from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from deployment_toolkit.core import Arrays, Batch, ModelSpec, Precision, TensorSpec
from deployment_toolkit.errors import InputError, ModelError
from deployment_toolkit.library.tensorflow.session import (
    KerasLoader,
    KerasSession,
    SavedModelFromKeras,
    SavedModelLoader,
)
from deployment_toolkit.rows.sample import random_rows

TWO_OUTPUTS = """
import tensorflow as tf

def get_model(*, factor: float = 1.0):
    a = tf.keras.Input((2,), name="a")
    b = tf.keras.Input((1,), name="b", dtype="int32")
    table = tf.keras.layers.Embedding(4, 2, embeddings_initializer="ones")(b)[:, 0]
    model = tf.keras.Model({"a": a, "b": b}, {"total": a + table * factor, "product": a * table * factor})
    return model, model

def get_value_ranges():
    return {"b": (0, 3)}
"""


@pytest.fixture(scope="module")
def two_outputs(tmp_path_factory: pytest.TempPathFactory) -> KerasSession:
    path = tmp_path_factory.mktemp("module") / "two_outputs.py"
    path.write_text(TWO_OUTPUTS)
    session = KerasLoader(factor=3.0, unrelated="x").load(path)
    assert isinstance(session, KerasSession)
    return session


X: Arrays = {"a": np.array([[1, 2], [3, 4]], np.float32), "b": np.array([[0], [3]], np.int32)}
SPEC = ModelSpec(
    inputs=(TensorSpec("a", "float32", (2,)), TensorSpec("b", "int32", (1,), (0, 3))),
    outputs=(TensorSpec("product", "float32", (2,)), TensorSpec("total", "float32", (2,))),
)


def test_keras_module_becomes_a_session_with_names_and_value_ranges(two_outputs: KerasSession) -> None:
    assert two_outputs.spec == SPEC
    answers = two_outputs.infer(X)
    assert (answers["total"].tolist(), answers["product"].tolist()) == ([[4, 5], [6, 7]], [[3, 6], [9, 12]])


def test_savedmodel_in_a_folder_with_the_letters_of_patterns_is_loaded(
    two_outputs: KerasSession, tmp_path: Path
) -> None:
    path = tmp_path / "it's [2] é" / "model"
    SavedModelFromKeras().save(two_outputs, path)
    assert SavedModelLoader().load(path).infer(X)["total"].tolist() == [[4, 5], [6, 7]]


def test_savedmodel_answers_like_its_source(two_outputs: KerasSession, tmp_path: Path) -> None:
    SavedModelFromKeras().save(two_outputs, tmp_path / "model")
    assert SavedModelLoader().read_spec(tmp_path / "model") == SPEC
    with SavedModelLoader().load(tmp_path / "model") as session:
        assert session.spec == SPEC
        batch = Batch(np.arange(2), X)
        (prediction,) = session.predict(iter([batch]))
        assert prediction.batch is batch
        for name, answer in two_outputs.infer(X).items():
            assert np.array_equal(prediction.y_pred[name], answer)
        with pytest.raises(InputError, match="input b holds id 4"):
            session.infer(X | {"b": np.full((2, 1), 4, np.int32)})


def test_foreign_savedmodel_has_a_signature_and_no_value_ranges(two_outputs: KerasSession, tmp_path: Path) -> None:
    SavedModelFromKeras().save(two_outputs, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "assets.extra")
    spec = SavedModelLoader().read_spec(tmp_path / "model")
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in spec.inputs] == [
        ("a", "float32", (2,)),
        ("b", "int32", (1,)),
    ]
    assert (spec.outputs, spec.value_ranges) == (SPEC.outputs, {})


def test_wide_and_deep_becomes_a_savedmodel(tiny_savedmodel: Path, tiny_folder: Path) -> None:
    from widedeep.features.spec import load_feature_spec

    with SavedModelLoader().load(tiny_savedmodel) as session:
        assert session.spec == load_feature_spec(tiny_folder / "feature_spec.yaml").model_spec
        assert session.infer(random_rows(session.spec, 5, seed=1))["wide_deep_model"].shape == (5, 1)


def nothing(path: Path) -> None: ...


def empty(path: Path) -> None:
    path.mkdir()


def garbage(path: Path) -> None:
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"garbage")


def no_signature(path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(path))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (nothing, r"is not a SavedModel folder \(it has no saved_model\.pb\): export the model first"),
        (empty, r"is not a SavedModel folder"),
        (garbage, r"can't be loaded by TensorFlow 2\."),
        (no_signature, r"has no signature serving_default, only \[\]"),
    ],
)
def test_folder_without_a_valid_savedmodel_is_reported(
    make: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    make(tmp_path / "model")
    with pytest.raises(ModelError, match=message):
        SavedModelLoader().load(tmp_path / "model")


def test_savedmodel_with_damaged_weights_is_reported(tiny_savedmodel: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_savedmodel, tmp_path / "model")
    (data,) = (tmp_path / "model" / "variables").glob("*.data-*")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ModelError, match="can't be loaded"):
        SavedModelLoader().load(tmp_path / "model")


@pytest.mark.parametrize(
    ("dtype", "narrowest"), [("float32", Precision.FP32), ("float16", Precision.FP16), ("bfloat16", Precision.BF16)]
)
def test_precision_of_a_savedmodel_is_its_narrowest_dtype(dtype: str, narrowest: Precision, tmp_path: Path) -> None:
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.cast(tf.cast(x, dtype) * 2, tf.float32)}

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=[tf.TensorSpec([None, 1], tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=module.serve)
    assert SavedModelLoader().precision(tmp_path / "model") is narrowest


@pytest.mark.parametrize(("number", "hint"), [(-1, " (a GPU answers zeros for the padding"), (9, "$")])
def test_id_that_tensorflow_refuses_is_one_line(number: int, hint: str, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(TWO_OUTPUTS[: TWO_OUTPUTS.index("def get_value_ranges")])
    session = KerasLoader().load(tmp_path / "model.py")
    hint = re.escape(hint) if hint != "$" else hint
    with pytest.raises(ModelError, match=rf"rows: indices\[1,0\] = {number} is not in \[0, 4\){hint}") as raised:
        session.infer(X | {"b": np.array([[0], [number]], np.int32)})
    assert "\n" not in str(raised.value)
