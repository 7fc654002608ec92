"""Wide & Deep network over a feature specification.

*wide*: a bias, one scalar weight per category (multi-hot: the sum over the present categories) and a dot product over
the numbers. *deep*: embeddings and numbers concatenated, hidden layers (dense, relu) with dropout, then a dense layer
of one unit. The output is sigmoid(wide + deep).

Names and order of the variables are the same as in the original's checkpoints (NVIDIA DeepLearningExamples,
TensorFlow2/Recommendation/WideAndDeep). The deep columns are sorted by name, and an embedding counts as
``<feature>_embedding``, so the rows of the first kernel have the same meaning in both.

The network is a ``tf.Module`` without Keras, whose import takes as long as TensorFlow's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from widedeep.features.options import Combiner
from widedeep.features.spec import OUTPUT_NAME, Feature, FeatureSpec
from widedeep.model.weights import NewWeights

Weights = dict[str, tf.Variable]  # of a layer, by their names in the layer
TABLE = "embedding_weights"


def build_network(
    spec: FeatureSpec,
    embedding_widths: Mapping[str, int],
    *,
    hidden_units: Sequence[int] = (1024, 1024, 1024, 1024, 1024),
    dropout: float = 0.1,
    combiner: Combiner = Combiner.SUM,
    compute_dtype: str = "float32",
    seed: int = 0,
) -> Network:
    """Builds a network with new weights, which depend on the seed. With ``compute_dtype`` float16 the variables stay in
    float32."""
    new = NewWeights(seed)
    wide = WideHalf(spec, new, compute_dtype)
    columns = EmbeddedColumns(spec, embedding_widths, combiner, new, compute_dtype)
    return Network(spec, wide, DeepHalf(columns, hidden_units, dropout, new, compute_dtype))


class Network(tf.Module):  # type: ignore[misc]
    """A dict of inputs, ids ``[B, 1]`` or ``[B, max_hotness]`` and numbers ``[B, 1]`` -> probabilities ``[B, 1]``
    float32. The halves have the names that the checkpoint gives them."""

    output_names = (OUTPUT_NAME,)

    def __init__(self, spec: FeatureSpec, linear_model: WideHalf, dnn_model: DeepHalf) -> None:
        super().__init__(name="wide_deep")
        self._spec = spec
        self.linear_model = linear_model
        self.dnn_model = dnn_model

    @property
    def inputs(self) -> dict[str, tf.TensorSpec]:
        """Shape and dtype of each input."""
        return {
            feature.name: tf.TensorSpec((None, feature.max_hotness or 1), feature.dtype, feature.name)
            for feature in self._spec.inputs
        }

    def __call__(self, x: Mapping[str, Any]) -> Any:
        with tf.name_scope("wide_deep"):
            return tf.sigmoid(self._logits(x, None))

    def logits(self, x: Mapping[str, Any], random: tf.random.Generator | None = None) -> Any:
        """The answers before the sigmoid, ``[B, 1]`` float32. With a generator the hidden layers drop units, as they do
        in training."""
        with tf.name_scope("wide_deep"):
            return self._logits(x, random)

    def _logits(self, x: Mapping[str, Any], random: tf.random.Generator | None) -> Any:
        columns = {name: tf.cast(x[name], tensor.dtype) for name, tensor in self.inputs.items()}
        return tf.cast(self.linear_model(columns) + self.dnn_model(columns, random), tf.float32)


class EmbeddedColumns(tf.Module):  # type: ignore[misc]
    """Dict of inputs -> the concatenated deep columns, ``[B, width]``, in the dtype of the computation."""

    def __init__(
        self,
        spec: FeatureSpec,
        embedding_widths: Mapping[str, int],
        combiner: Combiner,
        new: NewWeights,
        compute_dtype: str,
    ) -> None:
        super().__init__(name="deep_embedded")
        self._combiner = combiner
        self._dtype = compute_dtype
        tables = [(f"{feature.name}_embedding", feature) for feature in (*spec.onehot, *spec.multihot)]
        numbers = [(feature.name, feature) for feature in spec.numerical]
        self._columns = [feature for _, feature in sorted([*tables, *numbers], key=lambda column: column[0])]
        self.weights: Weights = {
            f"{feature.name}/{TABLE}": new.normal(
                f"{feature.name}/{TABLE}", (feature.cardinality, embedding_widths[feature.name])
            )
            for feature in self._columns
            if feature.cardinality is not None
        }
        self.width = sum(
            1 if feature.cardinality is None else embedding_widths[feature.name] for feature in self._columns
        )

    def __call__(self, x: Mapping[str, Any]) -> Any:
        columns = [self._column(feature, x[feature.name]) for feature in self._columns]
        return tf.concat(columns, axis=1) if len(columns) > 1 else columns[0]

    def _column(self, feature: Feature, x: Any) -> Any:
        if feature.cardinality is None:
            return tf.cast(x, self._dtype)
        return _lookup(self.weights[f"{feature.name}/{TABLE}"], x, feature, self._combiner, self._dtype)


class DeepHalf(tf.Module):  # type: ignore[misc]
    """Dict of inputs -> the deep half's logit, ``[B, 1]``."""

    def __init__(
        self,
        columns: EmbeddedColumns,
        hidden_units: Sequence[int],
        dropout: float,
        new: NewWeights,
        compute_dtype: str,
    ) -> None:
        super().__init__(name="dnn_model")
        self._embedded = columns
        self._dropout = dropout
        self._dtype = compute_dtype
        sizes = [columns.width, *hidden_units, 1]
        self._dense = [
            {
                "kernel": new.uniform("kernel", (sizes[number], units)),
                "bias": new.zeros("bias", (units,)),
            }
            for number, units in enumerate(sizes[1:])
        ]

    @property
    def layers(self) -> list[Weights]:
        """Weights of the layers, from the first to the output."""
        return [self._embedded.weights, *self._dense]

    def __call__(self, x: Mapping[str, Any], random: tf.random.Generator | None = None) -> Any:
        *hidden, last = self._dense
        with tf.name_scope("deep_embedded"):
            deep = self._embedded(x)
        for number, layer in enumerate(hidden):
            with tf.name_scope(f"hidden_{number}"):  # converters name what they leave out by these scopes
                deep = self._drop(tf.nn.relu(self._product(deep, layer)), random)
        with tf.name_scope("logit"):
            return self._product(deep, last)

    def _product(self, x: Any, layer: Weights) -> Any:
        product = tf.matmul(x, tf.cast(layer["kernel"], self._dtype))
        return tf.nn.bias_add(product, tf.cast(layer["bias"], self._dtype))

    def _drop(self, x: Any, random: tf.random.Generator | None) -> Any:
        """Sets the share ``dropout`` of the units to zero, and scales the others so that the mean stays."""
        if random is None or self._dropout == 0:
            return x
        kept = random.uniform(tf.shape(x)) >= self._dropout
        return tf.where(kept, x / (1 - self._dropout), tf.zeros((), x.dtype))


class WideHalf(tf.Module):  # type: ignore[misc]
    """Dict of inputs -> the linear half's logit, ``[B, 1]``."""

    def __init__(self, spec: FeatureSpec, new: NewWeights, compute_dtype: str) -> None:
        super().__init__(name="linear_model")
        self._dtype = compute_dtype
        self._numbers = sorted(feature.name for feature in spec.numerical)
        self._categorical = sorted((*spec.onehot, *spec.multihot), key=lambda feature: feature.name)
        self._weights: Weights = {
            f"{feature.name}/{TABLE}": new.zeros(f"{feature.name}/{TABLE}", (spec.cardinalities[feature.name], 1))
            for feature in self._categorical
        }
        if self._numbers:
            self._weights[f"numeric/{TABLE}"] = new.zeros(f"numeric/{TABLE}", (len(self._numbers), 1))
        self._weights["bias"] = new.zeros("bias", (1,))

    @property
    def layers(self) -> list[Weights]:
        """Weights of the one layer."""
        return [self._weights]

    def __call__(self, x: Mapping[str, Any]) -> Any:
        with tf.name_scope("wide_linear"):
            return self._logit(x)

    def _logit(self, x: Mapping[str, Any]) -> Any:
        logit = tf.cast(self._weights["bias"], self._dtype)
        for feature in self._categorical:
            table = self._weights[f"{feature.name}/{TABLE}"]
            logit = logit + _lookup(table, x[feature.name], feature, Combiner.SUM, self._dtype)
        if self._numbers:
            numbers = tf.concat([tf.cast(x[name], self._dtype) for name in self._numbers], axis=1)
            logit = logit + tf.matmul(numbers, tf.cast(self._weights[f"numeric/{TABLE}"], self._dtype))
        return logit


def _lookup(table: tf.Variable, ids: Any, feature: Feature, combiner: Combiner, dtype: str) -> Any:
    """Rows of ``table`` for ``ids`` [B, 1] or [B, hotness], one vector per row of the batch.

    The function gathers from the variable and never reads it whole: otherwise an optimizer would copy the table at each
    step, and a layer in half precision would cast all of it.
    """
    if feature.max_hotness is None:
        return tf.cast(tf.gather(table, ids[:, 0]), dtype)
    # The padding id would be out of range on a CPU; its row is multiplied by zero.
    rows = tf.cast(tf.gather(table, tf.maximum(ids, 0)), dtype)
    present = tf.cast(ids >= 0, dtype)[:, :, tf.newaxis]
    total = tf.reduce_sum(rows * present, axis=1)
    if combiner is Combiner.MEAN:
        total = tf.math.divide_no_nan(total, tf.reduce_sum(present, axis=1))
    return total
