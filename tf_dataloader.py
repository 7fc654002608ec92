"""Preprocessed parquet as tf.data: for training, and for dataloaders of the original's contract."""

from __future__ import annotations

import contextlib
import glob
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow as tf

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import DataError, data_error_in, require_at_least
from widedeep.data.dataset_folder import DatasetFolder
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
    """Dataset of batches (x {input: [B, 1] or [B, max_hotness]}, label [B, 1]), prefetched; ``epochs`` None repeats
    without end.

    The last batch of an epoch may be shorter. With ``shuffle`` every epoch has a different order, which depends on
    ``seed``; otherwise it is the order of the files. The cardinality of the dataset is its number of batches. Raises
    DataError as ``ParquetDataset`` does; see ``data_errors`` for wrong values that are found while reading.
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


def eval_input_fn(files_path: Sequence[str | Path], records_batch_size: int) -> tf.data.Dataset:
    """Dataset of batches (x {input: [B, 1] or [B, max_hotness]}, label [B, 1], ids [B]) of the files, in their order,
    prefetched; the function that the original's dataloader imports.

    ``feature_spec.yaml`` of the data set's folder describes the columns, else they are Outbrain's. Raises DataError as
    ``ParquetDataset`` does, also without any file; see ``data_errors`` for wrong values that are found while reading.
    """
    require_at_least("the batch size", records_batch_size, 1)
    if not files_path:
        raise DataError("eval_input_fn got no files: check the data pattern")
    spec = DatasetFolder.of_file(Path(files_path[0])).spec(None)
    source = ParquetDataset([glob.escape(str(path)) for path in files_path], spec)
    label, group = spec.label, spec.group_id

    def batches() -> Iterator[tuple[Arrays, Array, Array]]:
        for batch in source.batches(records_batch_size):
            yield batch.x, batch.y[label.name], batch.ids

    signature = (
        {tensor.name: tf.TensorSpec((None, *tensor.shape), tensor.dtype) for tensor in spec.model_spec.inputs},
        tf.TensorSpec((None, 1), label.dtype),
        tf.TensorSpec((None,), "int64" if group is None else group.dtype),
    )
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    batch_count = -(-source.num_rows // records_batch_size)
    return dataset.apply(tf.data.experimental.assert_cardinality(batch_count)).prefetch(2)


@contextlib.contextmanager
def data_errors() -> Iterator[None]:
    """Converts TensorFlow's error, if a DataError caused it while TensorFlow read a dataset, back to that DataError."""
    try:
        yield
    except tf.errors.OpError as error:
        found = data_error_in(str(error.message))
        if found is None:
            raise
        raise found from error
