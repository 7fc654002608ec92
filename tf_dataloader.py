"""Preprocessed parquet -> tf.data, for training."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence

import tensorflow as tf

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import DataError, require_at_least
from widedeep.data.parquet import ParquetDataset
from widedeep.features.spec import FeatureSpec


def train_input_fn(
    *,
    data_pattern: str | Sequence[str],
    feature_spec: FeatureSpec,
    batch_size: int,
    shuffle: bool = True,
    seed: int = 0,
    epochs: int | None = 1,
) -> tf.data.Dataset:
    """Batches of (x {input: [B, 1] or [B, max_hotness]}, label [B, 1]), prefetched; None repeats without end.

    The last batch of an epoch may be shorter. With ``shuffle`` every epoch has an order of its own, which depends on
    ``seed``; otherwise it is that of the files. The cardinality of the dataset is its number of batches. Raises
    DataError as ``ParquetDataset`` does; see ``data_errors`` for values that are found wrong while reading.
    """
    require_at_least("the batch size", batch_size, 1)
    source = ParquetDataset(data_pattern, feature_spec.for_training)
    label = feature_spec.label

    def batches() -> Iterator[tuple[Arrays, Array]]:
        for epoch in itertools.count() if epochs is None else range(epochs):
            order = source.shuffled_batches(batch_size, seed=seed + epoch) if shuffle else source.batches(batch_size)
            for batch in order:
                yield batch.x, batch.y[label.name]

    inputs = feature_spec.model_spec.inputs
    signature = (
        {spec.name: tf.TensorSpec((None, *spec.shape), spec.dtype) for spec in inputs},
        tf.TensorSpec((None, 1), label.dtype),
    )
    cardinality = tf.data.INFINITE_CARDINALITY if epochs is None else epochs * -(-source.num_rows // batch_size)
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(cardinality)).prefetch(2)


@contextlib.contextmanager
def data_errors() -> Iterator[None]:
    """Turns the error that TensorFlow makes of a DataError raised while it reads a dataset back into that one."""
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"DataError: (.*)", str(error.message))
        if found is None:
            raise
        raise DataError(found[1]) from error
