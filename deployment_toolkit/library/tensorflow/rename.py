"""Renaming of the inputs and outputs of a SavedModel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from deployment_toolkit.library.base import SPEC_FILE, store_spec
from deployment_toolkit.library.tensorflow.session import SavedModelSession
from deployment_toolkit.library.tensorflow.shapes import batch_shape


class RenamedSavedModel:
    """SavedModel -> the same model with other names for some of its inputs and outputs."""

    def __init__(self, *, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        self._inputs, self._outputs = inputs, outputs

    def convert(self, source: Path, target: Path) -> None:
        """Writes the folder ``target``."""
        session = SavedModelSession(source)

        def serve(**x: Any) -> dict[str, Any]:
            own = {tensor.name: x[self._inputs.get(tensor.name, tensor.name)] for tensor in session.spec.inputs}
            return {self._outputs.get(name, name): value for name, value in session.function(**own).items()}

        spec = session.spec.with_names(self._inputs, self._outputs)
        signature = {
            tensor.name: tf.TensorSpec(batch_shape(tensor.shape), tensor.dtype, tensor.name) for tensor in spec.inputs
        }
        module = tf.Module()
        module.model = session.model
        module.serve = tf.function(serve, autograph=False).get_concrete_function(**signature)
        tf.saved_model.save(module, str(target), signatures=module.serve)
        store_spec(target / SPEC_FILE, spec)
