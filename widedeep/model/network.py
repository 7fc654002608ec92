"""Wide & Deep network over a feature specification.

*wide*: a bias, one scalar weight per category (multi-hot: the sum over the present categories) and a dot product over
the numbers. *deep*: embeddings and numbers concatenated, hidden Dense(relu) layers with dropout, then Dense(1). The
output is sigmoid(wide + deep).

Names and order of the variables are the same as in the original's checkpoints (NVIDIA DeepLearningExamples,
TensorFlow2/Recommendation/WideAndDeep). The deep columns are sorted by name, and an embedding counts as
``<feature>_embedding``, so the rows of the first kernel have the same meaning in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from widedeep.features.options import Combiner
from widedeep.features.spec import OUTPUT_NAME, Feature, FeatureSpec


@dataclass(frozen=True)
class Network:
    """Keras model (dict of inputs -> ``[B, 1]`` float32) and its two halves, which the checkpoint names."""

    model: tf.keras.Model
    linear_model: tf.keras.Model
    dnn_model: tf.keras.Model


def build_network(
    spec: FeatureSpec,
    embedding_widths: Mapping[str, int],
    *,
    hidden_units: Sequence[int] = (1024, 1024, 1024, 1024, 1024),
    dropout: float = 0.1,
    combiner: Combiner = Combiner.SUM,
    compute_dtype: str = "float32",
) -> Network:
    """Builds a network with new weights. With ``compute_dtype`` float16 the variables stay in float32."""
    policy = "mixed_float16" if compute_dtype == "float16" else compute_dtype
    taken = {feature.name.lower() for feature in spec.inputs}

    def own(name: str) -> str:
        """Name of a layer that is not an input, which Keras names as the feature."""
        return f"{name}.layer" if name in taken else name

    inputs = {
        feature.name: tf.keras.Input(shape=(feature.max_hotness or 1,), name=feature.name, dtype=feature.dtype)
        for feature in spec.inputs
    }
    wide = WideLayer(spec, name=own("wide_linear"), dtype=policy)(inputs)
    deep = EmbeddingLayer(spec, embedding_widths, combiner, name=own("deep_embedded"), dtype=policy)(inputs)
    for number, units in enumerate(hidden_units):
        deep = tf.keras.layers.Dense(units, activation="relu", name=own(f"hidden_{number}"), dtype=policy)(deep)
        deep = tf.keras.layers.Dropout(dropout, name=own(f"dropout_{number}"), dtype=policy)(deep)
    deep = tf.keras.layers.Dense(1, name=own("logit"), dtype=policy)(deep)
    total = tf.keras.layers.Add(name=own("wide_plus_deep"), dtype=policy)([wide, deep])
    answer = tf.keras.layers.Activation("sigmoid", name=OUTPUT_NAME, dtype="float32")(total)
    return Network(
        model=tf.keras.Model(inputs, answer, name="wide_deep"),
        linear_model=tf.keras.Model(inputs, wide, name="linear_model"),
        dnn_model=tf.keras.Model(inputs, deep, name="dnn_model"),
    )


class EmbeddingLayer(tf.keras.layers.Layer):  # type: ignore[misc]
    """Dict of inputs -> the concatenated deep columns, ``[B, sum of widths + numbers]``."""

    def __init__(
        self, spec: FeatureSpec, embedding_widths: Mapping[str, int], combiner: Combiner, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._multihot = {feature.name for feature in spec.multihot}
        self._combiner = combiner
        tables = [(f"{feature.name}_embedding", feature) for feature in (*spec.onehot, *spec.multihot)]
        numbers = [(feature.name, feature) for feature in spec.numerical]
        self._columns = sorted([*tables, *numbers], key=lambda column: column[0])
        self._tables = {
            feature.name: _add_table(self, feature, embedding_widths[feature.name], "glorot_normal")
            for _, feature in self._columns
            if feature.cardinality is not None
        }

    def call(self, inputs: dict[str, Any]) -> Any:
        columns = [self._column(feature, inputs[feature.name]) for _, feature in self._columns]
        return tf.concat(columns, axis=1) if len(columns) > 1 else columns[0]

    def _column(self, feature: Feature, x: Any) -> Any:
        if feature.cardinality is None:
            return tf.cast(x, self.compute_dtype)
        return _lookup(self._tables[feature.name], x, feature.name in self._multihot, self._combiner)


class WideLayer(tf.keras.layers.Layer):  # type: ignore[misc]
    """Dict of inputs -> the linear half's logit, ``[B, 1]``."""

    def __init__(self, spec: FeatureSpec, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._multihot = {feature.name for feature in spec.multihot}
        self._numbers = sorted(feature.name for feature in spec.numerical)
        categorical = sorted((*spec.onehot, *spec.multihot), key=lambda feature: feature.name)
        self._tables = {feature.name: _add_table(self, feature, 1, "zeros") for feature in categorical}
        if self._numbers:
            self._kernel = self.add_weight(
                name="numeric/embedding_weights", shape=(len(self._numbers), 1), initializer="zeros"
            )
        self._bias = self.add_weight(name="bias", shape=(1,), initializer="zeros")

    def call(self, inputs: dict[str, Any]) -> Any:
        logit = tf.cast(self._bias, self.compute_dtype)
        for name, table in self._tables.items():
            logit = logit + _lookup(table, inputs[name], name in self._multihot, Combiner.SUM)
        if self._numbers:
            numbers = tf.concat([tf.cast(inputs[name], self.compute_dtype) for name in self._numbers], axis=1)
            logit = logit + tf.matmul(numbers, tf.cast(self._kernel, self.compute_dtype))
        return logit


def _add_table(layer: tf.keras.layers.Layer, feature: Feature, width: int, initializer: str) -> Any:
    return layer.add_weight(
        name=f"{feature.name}/embedding_weights", shape=(feature.cardinality, width), initializer=initializer
    )


def _lookup(table: Any, ids: Any, multihot: bool, combiner: Combiner) -> Any:
    """Rows of ``table`` for ``ids`` [B, 1] or [B, hotness], one vector per row of the batch.

    The function gathers from the variable and never reads it whole: otherwise an optimizer would copy the table at each
    step, and a layer in half precision would cast all of it.
    """
    if not multihot:
        return tf.gather(table, ids[:, 0])
    # The padding id would be out of range on a CPU; its row is multiplied by zero.
    rows = tf.gather(table, tf.maximum(ids, 0))
    present = tf.cast(ids >= 0, rows.dtype)[:, :, tf.newaxis]
    total = tf.reduce_sum(rows * present, axis=1)
    if combiner is Combiner.MEAN:
        total = tf.math.divide_no_nan(total, tf.reduce_sum(present, axis=1))
    return total
