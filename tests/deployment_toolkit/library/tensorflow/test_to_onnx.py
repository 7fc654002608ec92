from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Arrays
from deployment_toolkit.errors import ConversionError
from deployment_toolkit.library.onnx.session import OnnxLoader
from deployment_toolkit.library.tensorflow import to_onnx as tf_to_onnx
from deployment_toolkit.library.tensorflow.session import (
    KerasLoader,
    OnnxFromKeras,
    OnnxFromSavedModel,
    SavedModelLoader,
)
from deployment_toolkit.rows.sample import random_rows

TWO_OUTPUTS = """
import tensorflow as tf

def get_model():
    a, b = (tf.keras.Input((2,), name=name) for name in "ab")
    model = tf.keras.Model({"b": b, "a": a}, {"total": a + b, "difference": a - b, "negative": -b})
    return model, model
"""


@pytest.fixture(scope="module")
def network_options(tiny_folder: Path) -> dict[str, Any]:
    options = {"deep_hidden_units": [8, 8], "checkpoint_dir": tiny_folder / "checkpoint", "precision": "fp32"}
    return options | {"feature_spec": tiny_folder / "feature_spec.yaml"}


@pytest.mark.parametrize("opset", [13, 17])
def test_onnx_file_answers_like_its_source_savedmodel(tiny_savedmodel: Path, tmp_path: Path, opset: int) -> None:
    path = tmp_path / "model.onnx"
    OnnxFromSavedModel(opset=opset).convert(tiny_savedmodel, path)
    source, made = SavedModelLoader().load(tiny_savedmodel), OnnxLoader().load(path)
    assert made.spec == source.spec
    assert made.spec.value_ranges == {"ad": (0, 19), "tags": (-1, 6), "zone": (0, 5)}
    for rows in (1, 100):
        x = random_rows(made.spec, rows, seed=rows)
        x["tags"][0] = -1
        answer = made.infer(x)["wide_deep_model"]
        assert answer.shape == (rows, 1)
        np.testing.assert_allclose(answer, source.infer(x)["wide_deep_model"], rtol=0, atol=1e-6)
    (default,) = (item.version for item in onnx.load(path).opset_import if not item.domain)
    assert default == opset


@pytest.mark.parametrize("combiner", ["sum", "mean"])
def test_onnx_file_answers_like_the_keras_model(network_options: dict[str, Any], tmp_path: Path, combiner: str) -> None:
    from widedeep.features.options import Combiner

    source = KerasLoader(**network_options, combiner=Combiner(combiner)).load(ROOT / "model.py")
    OnnxFromKeras().save(source, tmp_path / "model.onnx")  # type: ignore[arg-type]
    made = OnnxLoader().load(tmp_path / "model.onnx")
    x = random_rows(source.spec, 100, seed=1)
    x["tags"][0] = -1
    np.testing.assert_allclose(made.infer(x)["wide_deep_model"], source.infer(x)["wide_deep_model"], rtol=0, atol=1e-6)


def test_outputs_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO_OUTPUTS)
    source = KerasLoader().load(tmp_path / "two.py")
    OnnxFromKeras().save(source, tmp_path / "model.onnx")  # type: ignore[arg-type]
    x: Arrays = {"a": np.array([[5, 7]], np.float32), "b": np.array([[1, 2]], np.float32)}
    answers = OnnxLoader().load(tmp_path / "model.onnx").infer(x)
    wanted = {"difference": [[4, 5]], "negative": [[-1, -2]], "total": [[6, 9]]}
    assert {name: answer.tolist() for name, answer in answers.items()} == wanted


def test_weights_are_stored_once(tiny_savedmodel: Path, tmp_path: Path) -> None:
    OnnxFromSavedModel().convert(tiny_savedmodel, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    tables = [list(tensor.dims) for tensor in graph.initializer if tensor.dims and tensor.dims[0] == 20]
    assert sorted(tables) == [[20, 1], [20, 64]]
    assert [value.name for value in graph.input] == ["ad", "ad_age", "price", "tags", "zone"]


def test_weights_too_large_for_one_file_are_refused(
    tiny_savedmodel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf_to_onnx, "_MOST_WEIGHTS_BYTES", 10_000)
    with pytest.raises(ConversionError, match="an ONNX file holds .* keep it as a SavedModel"):
        OnnxFromSavedModel().convert(tiny_savedmodel, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opset", [3, 99])
def test_unsupported_opset_is_refused(tiny_savedmodel: Path, tmp_path: Path, opset: int) -> None:
    with pytest.raises(ConversionError, match=rf"tf2onnx 1\.17\.\S+ can't write opset {opset}: \w+"):
        OnnxFromSavedModel(opset=opset).convert(tiny_savedmodel, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
