"""Checkpoints of the original. A network is built here from its description alone, with the Wide & Deep model of
``tf.keras.experimental`` like the original. It is trained for one step and saved like the original. ``model.py`` must
give the same answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import ModelModule
from deployment_toolkit.errors import ModelError
from deployment_toolkit.options.plugins import load_module
from deployment_toolkit.rows.sample import random_rows
from widedeep.features.options import Combiner
from widedeep.features.spec import Feature, FeatureSpec
from widedeep.model.embedding_sizes import embedding_sizes_to_json

MODEL = ROOT / "model.py"
ROWS = 200
# "ad" comes before "ad_age", its embedding "ad_embedding" after it; "Zone" before both
NUMBERS = (Feature("price", "float32"), Feature("ad_age", "float64"))
ONEHOT = (Feature("Zone", "int32", 6), Feature("ad", "int64", 30))
MULTIHOT = (Feature("tags", "int32", 7, 3), Feature("ad_tags", "int64", 5, 1), Feature("words", "int32", 90, 10))
WIDTHS = {"shop": 6, "Zone": 3, "ad": 8, "tags": 5, "ad_tags": 2, "words": 4}


class OriginalsLinear(tf.keras.layers.Layer):  # type: ignore[misc]
    """A weight for each category and number, and a bias."""

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__(name="wide_linear")
        self.spec = spec

    def build(self, _: Any) -> None:
        for name, count in self.spec.cardinalities.items():
            setattr(self, f"of_{name}", self.add_weight(name=f"{name}/embedding_weights", shape=(count, 1)))
        if self.spec.numerical:
            shape = (len(self.spec.numerical), 1)
            self.of_numbers = self.add_weight(name="numeric/embedding_weights", shape=shape)
        self.bias = self.add_weight(name="bias", shape=(1,))

    def call(self, x: Mapping[str, Any]) -> Any:
        total = self.bias
        for name, count in self.spec.cardinalities.items():
            total = total + present(x[name], count) @ getattr(self, f"of_{name}")
        if self.spec.numerical:
            numbers = [tf.cast(x[name], tf.float32) for name in sorted(feature.name for feature in self.spec.numerical)]
            total = total + tf.concat(numbers, 1) @ self.of_numbers
        return total


class OriginalsDense(tf.keras.layers.Layer):  # type: ignore[misc]
    """Embeddings and numbers, concatenated in the order of the names of TensorFlow's feature columns."""

    def __init__(self, spec: FeatureSpec, widths: Mapping[str, int], combiner: Combiner) -> None:
        super().__init__(name="deep_embedded")
        self.spec, self.widths, self.combiner = spec, widths, combiner

    def build(self, _: Any) -> None:
        for name, count in self.spec.cardinalities.items():
            shape = (count, self.widths[name])
            setattr(self, f"of_{name}", self.add_weight(name=f"{name}/embedding_weights", shape=shape))

    def call(self, x: Mapping[str, Any]) -> Any:
        columns = {feature.name: tf.cast(x[feature.name], tf.float32) for feature in self.spec.numerical}
        for name, count in self.spec.cardinalities.items():
            counts = present(x[name], count)
            joined = counts @ getattr(self, f"of_{name}")
            if self.combiner is Combiner.MEAN:
                joined /= tf.maximum(tf.reduce_sum(counts, 1, keepdims=True), 1)
            columns[f"{name}_embedding"] = joined
        return tf.concat([columns[name] for name in sorted(columns)], 1)


def present(ids: Any, count: int) -> Any:
    """Number of times that each category is in a row, ``[B, count]``; padding does not count."""
    return tf.reduce_sum(tf.one_hot(ids, count), 1)


def originals_network(spec: FeatureSpec, units: list[int], combiner: Combiner) -> Any:
    inputs = {
        tensor.name: tf.keras.Input(tensor.shape, dtype=tensor.dtype, name=tensor.name)
        for tensor in spec.model_spec.inputs
    }
    deep = OriginalsDense(spec, WIDTHS, combiner)(inputs)
    for count in units:
        deep = tf.keras.layers.Dense(count, activation="relu")(deep)
        deep = tf.keras.layers.Dropout(0.1)(deep)
    deep = tf.keras.layers.Dense(1)(deep)
    dnn_model = tf.keras.Model(inputs, deep)
    linear_model = tf.keras.Model(inputs, OriginalsLinear(spec)(inputs))
    return tf.keras.experimental.WideDeepModel(linear_model, dnn_model, activation="sigmoid")


def train_and_save(network: Any, x: dict[str, Any], directory: Path) -> None:
    """Trains one step with an optimizer for each half, and saves all in one checkpoint, like an epoch of the
    original."""
    wide, deep = tf.keras.optimizers.legacy.Ftrl(0.1), tf.keras.optimizers.legacy.RMSprop(0.001, rho=0.5)
    with tf.GradientTape(persistent=True) as tape:
        loss = tf.reduce_mean(tf.square(network(x, training=True) - 1))
    for optimizer, half in ((wide, network.linear_model), (deep, network.dnn_model)):
        variables = half.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    generator = np.random.default_rng(11)
    for variable in network.trainable_variables:  # one step teaches nothing
        variable.assign(generator.normal(0, 0.5, variable.shape))
    checkpoint = tf.train.Checkpoint(
        deep_optimizer=deep, wide_optimizer=wide, model=network, current_step_var=tf.Variable(457)
    )
    tf.train.CheckpointManager(checkpoint, str(directory), max_to_keep=1).save()


def options(folder: Path, spec: FeatureSpec, units: list[int], combiner: Combiner) -> dict[str, Any]:
    (folder / "spec.yaml").write_text(spec.to_yaml())
    (folder / "sizes.json").write_text(embedding_sizes_to_json({name: WIDTHS[name] for name in spec.cardinalities}))
    return {
        "checkpoint_dir": folder / "checkpoint",
        "precision": "fp32",
        "feature_spec": folder / "spec.yaml",
        "embedding_sizes": folder / "sizes.json",
        "deep_hidden_units": units,
        "combiner": combiner,
    }


SPECS = {
    "all": (NUMBERS, ONEHOT, MULTIHOT),
    "no numbers": ((), ONEHOT, MULTIHOT),
    "no one-hot": (NUMBERS, (), MULTIHOT),
    "no multi-hot": (NUMBERS, ONEHOT, ()),
    "only numbers": (NUMBERS, (), ()),
    "only one-hot": ((), ONEHOT, ()),
    "only multi-hot": ((), (), MULTIHOT),
}


def spec_of(channels: str) -> FeatureSpec:
    return FeatureSpec(*SPECS[channels], Feature("liked", "float32"), None)


def rows_of(spec: FeatureSpec) -> dict[str, Any]:
    """Random rows. All lists of the first row are empty, and all lists of the second are full."""
    x = random_rows(spec.model_spec, ROWS, seed=5)
    for feature in spec.multihot:
        x[feature.name][0] = -1
        x[feature.name][1] = (feature.cardinality or 0) - 1
    return dict(x)


@pytest.mark.parametrize("combiner", list(Combiner))
@pytest.mark.parametrize("channels", SPECS)
def test_original_checkpoint_gives_the_original_answers(channels: str, combiner: Combiner, tmp_path: Path) -> None:
    spec, units = spec_of(channels), [9, 7, 5][: 1 + len(channels) % 3]
    x = rows_of(spec)
    original = originals_network(spec, units, combiner)
    train_and_save(original, x, tmp_path / "checkpoint")
    wanted = original(x, training=False).numpy()
    module = load_module(MODEL, ModelModule)
    _, answer = module.get_model(**options(tmp_path, spec, units, combiner))
    assert np.ptp(wanted) > 0.15
    np.testing.assert_allclose(answer(x).numpy(), wanted, rtol=0, atol=1e-6)


def test_checkpoint_error_names_the_different_training_options(tmp_path: Path) -> None:
    spec = spec_of("all")
    train_and_save(originals_network(spec, [9, 7], Combiner.SUM), rows_of(spec), tmp_path / "checkpoint")
    module = load_module(MODEL, ModelModule)
    values = options(
        tmp_path, FeatureSpec((), (), (Feature("shop", "int32", 3, 2),), spec.label, None), [9], Combiner.SUM
    )
    with pytest.raises(ModelError) as raised:
        module.get_model(**values)
    told = str(raised.value)
    assert "2 missing: dnn_model/layer_with_weights-0/shop.Sembedding_weights, linear_model/layer_with_" in told
    assert "unexpected: dnn_model/layer_with_weights-0/Zone.Sembedding_weights, " in told
    assert "dnn_model/layer_with_weights-1/kernel [24, 9] instead of [6, 9], " in told
    assert told.endswith(
        "Give the options it was trained with: --deep-hidden-units 9 7, --feature-spec (numbers: 2; cardinalities: "
        "Zone 6, ad 30, ad_tags 5, tags 7, words 90), --embedding-sizes (Zone: 3, ad: 8, ad_tags: 2, tags: 5, words: 4)"
    )
