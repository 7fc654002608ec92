"""Names of inputs that are also names inside TensorFlow, or of the network's layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deployment_toolkit import packing
from deployment_toolkit.core import Format
from deployment_toolkit.errors import ModelError
from deployment_toolkit.library import registry
from deployment_toolkit.library.tensorflow.named_model import named_model
from deployment_toolkit.library.tensorflow.session import KerasSession, SavedModelFromKeras
from deployment_toolkit.rows.sample import random_rows
from widedeep.features.spec import Feature, FeatureSpec
from widedeep.model.checkpoint import load_checkpoint, save_checkpoint
from widedeep.model.network import build_network

NUMBERS = ("name", "training", "hidden_0", "logit", "wide_linear", "args", "Identity", packing.NUMBERS)
IDS = ("inputs", "kwargs", "dropout_0", "deep_embedded", "wide_plus_deep", "signature", "wide_deep", packing.IDS)


def test_network_of_names_that_are_taken_is_exported_converted_and_packed(tmp_path: Path) -> None:
    numbers, ids = (tuple(Feature(name, "float32") for name in NUMBERS), tuple(Feature(n, "int32", 7) for n in IDS))
    spec = FeatureSpec(numbers, ids, (), Feature("clicked", "int32"), None)
    network = build_network(spec, dict.fromkeys(IDS, 2), hidden_units=(4,))
    save_checkpoint(network, tmp_path / "checkpoint")
    load_checkpoint(network, tmp_path / "checkpoint")
    session = KerasSession(named_model((network, network), "model.py"), spec.value_ranges)
    x = random_rows(spec.model_spec, 5, seed=1)
    expected = session.infer(x)["wide_deep_model"]
    paths = {Format.TF_SAVEDMODEL: tmp_path / "exported.savedmodel", Format.ONNX: tmp_path / "converted.onnx"}
    SavedModelFromKeras().save(session, paths[Format.TF_SAVEDMODEL])
    registry.converter(*paths)().convert(*paths.values())
    for model_format, path in paths.items():
        registry.packer(model_format)().convert(path, tmp_path / f"packed_{model_format}")
        for source in (path, tmp_path / f"packed_{model_format}"):
            with registry.loader(model_format)().load(source) as loaded:
                answers = loaded.infer(packing.pack(x, loaded.spec))["wide_deep_model"]
            np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["self", "class"])
def test_name_that_tensorflow_can_not_take_is_refused(name: str) -> None:
    x = tf.keras.Input((1,), name=name)
    model = tf.keras.Model({name: x}, tf.keras.layers.Dense(1)(x))
    with pytest.raises(ModelError, match=f"TensorFlow can't take an input named {name}, a word of Python's: give"):
        KerasSession(named_model((model, model), "model.py"), {})
