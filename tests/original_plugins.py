"""User modules of the original's contract and of this project's, for the network and the rows of ``tiny_folder``.

Each pair computes the same, so that any mixture of them gives the same dumps and metrics.
"""

from __future__ import annotations

from pathlib import Path

CONTRACTS = ("original", "ours")
OUTPUT = "wide_deep_model"

_MODEL_HEAD = """
import tensorflow as tf

SHAPES = {"zone": (1, "int32"), "price": (1, "float32"), "tags": (3, "int32")}
SHAPES |= {"ad_age": (1, "float32"), "ad": (1, "int32")}

def network(factor):
    inputs = {name: tf.keras.Input((size,), name=name, dtype=dtype) for name, (size, dtype) in SHAPES.items()}
    order = {"zone": 1.0, "price": 2.0, "tags": 0.25, "ad_age": -3.0, "ad": 0.1}
    parts = [order[name] * tf.reduce_sum(tf.cast(x, tf.float32), 1, keepdims=True) for name, x in inputs.items()]
    score = tf.keras.layers.Activation("sigmoid", name="wide_deep_model")(factor * tf.add_n(parts) / 10)
    return inputs, score
"""
_ORIGINAL_MODEL = (
    _MODEL_HEAD
    + """
def update_argparser(parser):
    parser.add_argument("--factor", type=float, required=True)
    parser.add_argument("--batch-size", type=int, default=7)

def get_model(*, factor: float, batch_size: int = 131072):
    inputs, score = network(factor)
    model = tf.keras.Model(inputs=inputs.values(), outputs=score)

    @tf.function
    def call_fn(*tensors):
        return model(tensors, training=False)

    return model, call_fn
"""
)
_OUR_MODEL = (
    _MODEL_HEAD
    + """
def get_model(*, factor: float):
    inputs, score = network(factor)
    model = tf.keras.Model(inputs, score)
    return model, lambda x: model(x, training=False)
"""
)
_ORIGINAL_DATALOADER = """
import glob

import tensorflow as tf
from triton.tf_dataloader import eval_input_fn


def get_dataloader_fn(*, data_pattern: str, batch_size: int):
    paths = sorted(glob.glob(data_pattern))
    assert len(paths), "Expected at least one file"
    with tf.device("/cpu:0"):
        rows = eval_input_fn(files_path=paths, records_batch_size=batch_size)

    def batches():
        for x, y, ids in rows:
            yield list(ids.numpy()), dict(x), {"wide_deep_model": y.numpy()}

    return batches
"""
_OUR_DATALOADER = """
from pathlib import Path

from deployment_toolkit.rows.batches import BatchStream
from widedeep.data.parquet import ParquetDataset
from widedeep.features.spec import load_feature_spec


def get_dataloader_fn(*, data_pattern: str, batch_size: int = 100):
    return BatchStream(
        ParquetDataset(data_pattern, load_feature_spec(Path(data_pattern).parent / "feature_spec.yaml")), batch_size
    )
"""
_COMPUTED = """
        ids, scores, clicks = (np.concatenate([np.ravel(part) for part in parts]) for parts in kept)
        shown = {group: (ids == group).sum() for group in np.unique(ids)}
        return {"clicked_score": scores[clicks > 0].mean(), "ads": float(np.mean(list(shown.values())))}
"""
_ORIGINAL_METRICS = (
    """
import numpy as np
from triton.deployment_toolkit.core import BaseMetricsCalculator


class MetricsCalculator(BaseMetricsCalculator):
    def __init__(self, output_used_for_metrics: str):
        self.output = output_used_for_metrics
        self.ids, self.scores, self.clicks = [], [], []

    def update(self, ids, y_pred, x, y_real):
        if x is not None:
            assert "zone" in x
        self.ids = self.ids + ids
        self.scores.append(y_pred[self.output])
        self.clicks.append(y_real[self.output])

    @property
    def metrics(self):
        kept = [self.ids], self.scores, self.clicks"""
    + _COMPUTED
)
_OUR_METRICS = (
    """
import numpy as np


class MetricsCalculator:
    def __init__(self, *, output_used_for_metrics: str = "wide_deep_model"):
        self.output = output_used_for_metrics
        self.kept = [], [], []

    def update(self, ids, y_pred, x, y_real):
        (clicks,) = y_real.values()
        for part, array in zip(self.kept, (ids, y_pred[self.output], clicks)):
            part.append(array.reshape(-1))

    @property
    def metrics(self):
        kept = self.kept"""
    + _COMPUTED
)
TEXTS = {
    "original": {"model": _ORIGINAL_MODEL, "dataloader": _ORIGINAL_DATALOADER, "metrics": _ORIGINAL_METRICS},
    "ours": {"model": _OUR_MODEL, "dataloader": _OUR_DATALOADER, "metrics": _OUR_METRICS},
}


def write_plugins(folder: Path) -> Path:
    """Writes ``<contract>/model.py``, ``dataloader.py`` and ``metrics.py`` below ``folder``, which it returns."""
    for contract, texts in TEXTS.items():
        (folder / contract).mkdir(parents=True)
        for name, text in texts.items():
            (folder / contract / f"{name}.py").write_text(text)
    return folder
