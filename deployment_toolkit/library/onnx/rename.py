"""Renaming of the tensors of an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deployment_toolkit.core import ModelSpec
from deployment_toolkit.errors import ConversionError
from deployment_toolkit.library.base import SPEC_KEY
from deployment_toolkit.library.onnx.reading import read_onnx
from deployment_toolkit.library.onnx.writing import save_onnx


def rename_tensors(graph: Any, names: Mapping[str, str]) -> None:
    """Renames inputs, outputs and inner tensors of a graph in place, also in the subgraphs of its nodes."""

    def replace(values: Any) -> None:
        values[:] = [names.get(value, value) for value in values]

    for part in graphs(graph):
        for node in part.node:
            replace(node.input)
            replace(node.output)
        for value in (*part.input, *part.output, *part.value_info, *part.initializer):
            value.name = names.get(value.name, value.name)


class RenamedOnnx:
    """ONNX file -> the same model with other names for some of its inputs and outputs."""

    def __init__(self, *, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        self._inputs, self._outputs = inputs, outputs

    def convert(self, source: Path, target: Path) -> None:
        """Writes the file ``target``, and over 2 GiB ``<target>.data``. Raises ConversionError if a new name is that of
        another tensor, ModelError if the source is no ONNX file or weights are missing."""
        model = read_onnx(source, with_external_data=False)
        names = {**self._inputs, **self._outputs}
        inner = {name for part in graphs(model.graph) for node in part.node for name in (*node.input, *node.output)}
        taken = sorted((inner - names.keys()) & set(names.values()))
        if taken:
            raise ConversionError(f"{source} has a tensor {taken[0]} inside: choose another new name")
        rename_tensors(model.graph, names)
        for entry in model.metadata_props:
            if entry.key == SPEC_KEY:
                spec = ModelSpec.read(entry.value, str(source))
                entry.value = json.dumps(spec.with_names(self._inputs, self._outputs).to_dict())
        save_onnx(model, source, target)


def graphs(graph: Any) -> Iterator[Any]:
    """A graph and the subgraphs of its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from graphs(inner)
