"""Sample rows for a model: real rows from a dataloader, and random rows or zeros that the model accepts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deployment_toolkit.core import Array, Arrays, DataloaderFn, ModelSpec, TensorSpec
from deployment_toolkit.errors import DataError
from deployment_toolkit.packing import pack
from deployment_toolkit.rows.batches import exact_batches


def first_rows(dataloader_fn: DataloaderFn, rows: int) -> Arrays:
    """Inputs of the first ``rows`` rows of a dataset, or of all rows if it has fewer."""
    for batch in exact_batches((x for _, x, _ in dataloader_fn()), rows):
        return batch
    raise DataError("the dataloader yields no rows: check its data pattern")


def random_rows(
    spec: ModelSpec, rows: int, seed: int, ranges: Mapping[str, tuple[float, float]] | None = None
) -> Arrays:
    """Seeded random inputs inside each value range, both bounds included; ``ranges`` by input override the model's
    ranges. A float input without a range is from 0 to 1. Packed inputs hold the random rows of their columns.

    Raises DataError for an integer input without a value range (ids outside its table are refused or, on a GPU,
    answered without an error) and for an input with a dimension of any size.
    """
    generator = np.random.default_rng(seed)
    ranges = {**spec.value_ranges, **(ranges or {})}
    own = spec.unpacked.inputs
    return pack({tensor.name: _random(tensor, rows, ranges.get(tensor.name), generator) for tensor in own}, spec)


def nearest_to_zero(tensor: TensorSpec, shape: tuple[int, ...]) -> Array:
    """Values that the input can take: zeros, the id nearest to zero where there are bounds, and empty strings."""
    if tensor.dtype == "object":
        return np.full(shape, "", tensor.dtype)
    low, high = tensor.value_range or (0, 0)
    return np.full(shape, min(max(low, 0), high), tensor.dtype)


def _random(tensor: TensorSpec, rows: int, bounds: tuple[float, float] | None, generator: np.random.Generator) -> Array:
    if -1 in tensor.shape:
        raise DataError(
            f"input {tensor.name} has rows of any shape {list(tensor.shape)}: give a --dataloader with real rows"
        )
    shape = (rows, *tensor.shape)
    if np.issubdtype(np.dtype(tensor.dtype), np.floating):
        low, high = bounds or (0.0, 1.0)
        return generator.uniform(low, high, shape).astype(tensor.dtype)
    if tensor.dtype == "bool":
        return generator.integers(0, 1, shape, endpoint=True).astype(tensor.dtype)
    if bounds is None:
        raise DataError(
            f"input {tensor.name} takes ids and nothing says how many there are: give a --dataloader with real rows, "
            "or --value-ranges"
        )
    return generator.integers(int(bounds[0]), int(bounds[1]), shape, endpoint=True).astype(tensor.dtype)
