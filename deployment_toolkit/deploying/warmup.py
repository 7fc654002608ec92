"""Warm-up of a model: batches that the server computes when it loads the model, before the model is ready, so that
nobody's request is the slow first one of its size.

Source of the fields: Triton's ``ModelWarmup`` (``model_config.proto``). Each row of such a batch is a request of its
own, and all are the same row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from tritonclient.grpc import model_config_pb2 as pb

from deployment_toolkit.core import Array, ModelSpec
from deployment_toolkit.packing import pack
from deployment_toolkit.rows.sample import nearest_to_zero

FOLDER = "warmup"  # in the model's folder, where the server looks for the rows
MOST_ROWS = 4096  # of a batch by default: the server makes a request for each row, some 10 KB of memory
_COUNT = 2  # the second time a batch of this size runs as it will from then on


def usual_sizes(max_batch_size: int, preferred_batch_sizes: Iterable[int]) -> tuple[int, ...]:
    """Sizes of the batches to compute if none are named: 1, the preferred ones and the largest, up to 4096 rows."""
    sizes = {1, *preferred_batch_sizes, max_batch_size or 1}
    return tuple(sorted(size for size in sizes if size <= MOST_ROWS))


def write_warmup(config: Any, spec: ModelSpec, dtypes: Mapping[str, str], sizes: Iterable[int]) -> None:
    """Writes the batches into a ``ModelConfig`` message; ``dtypes`` are Triton's names of numpy's."""
    batched, kept = config.max_batch_size > 0, row_files(spec)
    for size in sorted(set(sizes)):
        warmup = config.model_warmup.add(name=f"batch of {size}", batch_size=size, count=_COUNT)
        for position, tensor in enumerate(spec.inputs):
            data = warmup.inputs[tensor.name]
            data.data_type = pb.DataType.Value(dtypes[tensor.dtype])
            data.dims.extend(tensor.smallest_shape if batched else (1, *tensor.smallest_shape))
            if _file_name(position) in kept:
                data.input_data_file = _file_name(position)
            else:
                data.zero_data = True


def row_files(spec: ModelSpec) -> dict[str, bytes]:
    """Files of a row, by their names in ``FOLDER``: of the inputs that don't take zeros."""
    own = {item.name: nearest_to_zero(item, (1, *item.smallest_shape)) for item in spec.unpacked.inputs}
    row = pack(own, spec)
    return {
        _file_name(position): np.ascontiguousarray(row[tensor.name]).tobytes()
        for position, tensor in enumerate(spec.inputs)
        if not _is_zero(row[tensor.name])
    }


def _file_name(position: int) -> str:
    return f"input_{position}"


def _is_zero(array: Array) -> bool:
    return array.dtype == object or not array.any()
