"""Renaming of the inputs and outputs of a SavedModel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployment_toolkit.library.tensorflow.session import SavedModelSession


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
        session.save_as(target, serve, spec)
