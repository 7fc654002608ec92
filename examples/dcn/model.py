"""Plug-in for ``--input-path``: a checkpoint of ``prepare.py`` -> DCN-v2, a deep & cross network that predicts ratings.

Embeddings and numbers are concatenated to x0. Cross layers compute x0 * (W x + b) + x, then come dense layers (the
stacked structure of Wang et al., DCN V2, WWW 2021, https://arxiv.org/abs/2008.13535).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from deployment_toolkit.core import Precision, ValueRange
from deployment_toolkit.errors import ModelError, UsageError

CARDINALITIES = {"user": 2000, "movie": 1000, "genres": 20}
HOTNESS = {"user": 1, "movie": 1, "genres": 4}  # ids of a row; a shorter list of genres is padded with -1
NUMBERS = ("movie_decades", "user_activity")
OUTPUT = "rating"
WEIGHTS = "dcn.weights.h5"

_WIDTH = 16
_CROSS_LAYERS = 3
_HIDDEN_UNITS = (128, 64)
_POLICIES = {Precision.FP32: "float32", Precision.FP16: "mixed_float16"}


def get_model(*, checkpoint_dir: Path, precision: Precision = Precision.FP32) -> tuple[Any, Callable[[Any], Any]]:
    """The network and the function that answers a dict of inputs with ``[B, 1]`` float32 ratings.

    Raises UsageError for a precision that Keras does not compute in, ModelError if the checkpoint is missing.
    """
    if precision not in _POLICIES:
        raise UsageError(f"--precision {precision}: DCN is exported in {' or '.join(_POLICIES)}")
    weights = checkpoint_dir / WEIGHTS
    if not weights.is_file():
        raise ModelError(f"there is no checkpoint {weights}: make it with examples/dcn/prepare.py --checkpoint-dir")
    model = build_model(_POLICIES[precision])
    model.load_weights(str(weights))
    return model, lambda x: model(x, training=False)


def get_value_ranges() -> dict[str, ValueRange]:
    """Smallest and largest id of each categorical input; requests with other ids are refused."""
    return {name: (-1 if HOTNESS[name] > 1 else 0, size - 1) for name, size in CARDINALITIES.items()}


def build_model(policy: str = "float32") -> Any:
    """A Keras model with fresh weights: dict of inputs, int64 ``[B, hotness]`` and float32 ``[B, 1]`` -> ratings."""
    layers = tf.keras.layers
    ids = {name: tf.keras.Input((HOTNESS[name],), name=name, dtype="int64") for name in CARDINALITIES}
    numbers = {name: tf.keras.Input((1,), name=name, dtype="float32") for name in NUMBERS}
    columns = [
        _mean_embedding(layers.Embedding(CARDINALITIES[name], _WIDTH, name=f"{name}_table", dtype=policy), ids[name])
        for name in CARDINALITIES
    ]
    x0 = layers.Concatenate(dtype=policy)([*columns, *numbers.values()])
    x = x0
    for number in range(_CROSS_LAYERS):
        x = x0 * layers.Dense(x0.shape[-1], name=f"cross_{number}", dtype=policy)(x) + x
    for number, units in enumerate(_HIDDEN_UNITS):
        x = layers.Dense(units, activation="relu", name=f"hidden_{number}", dtype=policy)(x)
    answer = layers.Dense(1, name=OUTPUT, dtype="float32")(x)
    return tf.keras.Model({**ids, **numbers}, answer, name="dcn")


def _mean_embedding(table: Any, ids: Any) -> Any:
    """Mean over the ids of a row, ``[B, hotness]`` -> ``[B, width]``; zeros where a row has none."""
    vectors = table(tf.maximum(ids, 0))
    present = tf.cast(ids >= 0, vectors.dtype)[:, :, tf.newaxis]
    return tf.math.divide_no_nan(tf.reduce_sum(vectors * present, axis=1), tf.reduce_sum(present, axis=1))
