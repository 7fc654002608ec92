"""Packing of a SavedModel's inputs (``deployment_toolkit.packing``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from deployment_toolkit.core import TensorSpec
from deployment_toolkit.files.atomic import require_free_space, size_bytes
from deployment_toolkit.library.tensorflow.session import SavedModelSession
from deployment_toolkit.packing import packed_spec


class PackedSavedModel:
    """SavedModel -> the same model with packed inputs."""

    def convert(self, source: Path, target: Path) -> None:
        """Writes the folder ``target``. Raises UsageError for an input that can't be packed, ModelError if the source
        is no SavedModel, DataError if the disk is too full."""
        session = SavedModelSession(source)
        spec = packed_spec(session.spec)
        require_free_space(target.parent, size_bytes(source), "the packed SavedModel")

        def serve(**x: Any) -> Any:
            own = {name: part for tensor in spec.inputs for name, part in _columns(tensor, x[tensor.name]).items()}
            return session.function(**own)

        session.save_as(target, serve, spec)


def _columns(tensor: TensorSpec, packed: Any) -> dict[str, Any]:
    """Inputs of the original signature, tensors [B, ...] of their dtypes, from a packed one [B, columns]."""
    parts = tf.split(packed, [column.row_size for column in tensor.columns], axis=1)
    return {
        column.name: tf.cast(part if len(column.shape) == 1 else tf.reshape(part, [-1, *column.shape]), column.dtype)
        for column, part in zip(tensor.columns, parts, strict=True)
    }
