"""Rows to try a model with: real ones from a dataloader, or random ones that the model can take."""

from __future__ import annotations

import numpy as np

from deployment_toolkit.core import Arrays, DataloaderFn, ModelSpec, TensorSpec
from deployment_toolkit.errors import DataError
from deployment_toolkit.rebatch import exact_batches


def first_rows(dataloader_fn: DataloaderFn, rows: int) -> Arrays:
    """The inputs of the first ``rows`` rows of a dataset, or of all where it has fewer."""
    for batch in exact_batches((x for _, x, _ in dataloader_fn()), rows):
        return batch
    raise DataError("the dataloader yields no rows: check its data pattern")


def random_rows(spec: ModelSpec, rows: int, seed: int) -> Arrays:
    """Seeded random inputs inside each value range.

    Raises DataError for an integer input without a value range (ids outside its table would be refused or, on a GPU,
    silently answered) and for an input with a dimension of any size.
    """
    generator = np.random.default_rng(seed)
    return {tensor.name: _random(tensor, rows, generator) for tensor in spec.inputs}


def _random(tensor: TensorSpec, rows: int, generator: np.random.Generator) -> np.ndarray:  # type: ignore[type-arg]
    if -1 in tensor.shape:
        raise DataError(
            f"input {tensor.name} has rows of any shape {list(tensor.shape)}: give a --dataloader with real rows"
        )
    shape = (rows, *tensor.shape)
    if tensor.value_range is not None:
        low, high = tensor.value_range
        return generator.integers(low, high, shape, endpoint=True).astype(tensor.dtype)
    if np.issubdtype(np.dtype(tensor.dtype), np.integer):
        raise DataError(
            f"input {tensor.name} takes ids and nothing says how many there are: give a --dataloader with real rows, "
            "or --value-ranges"
        )
    return generator.random(shape).astype(tensor.dtype)
