"""Packing of an ONNX file's inputs (``deployment_toolkit.packing``).

A ``Split`` takes the packed input apart. A ``Concat`` of several inputs is fed from the packed input directly: the
network joins its numbers anyway, and at one row every tensor costs time.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.library.base import SPEC_KEY
from deployment_toolkit.library.model_files import require_onnx_file
from deployment_toolkit.library.onnx.reading import read_onnx
from deployment_toolkit.library.onnx.rename import graphs, rename_tensors
from deployment_toolkit.library.onnx.session import OnnxLoader
from deployment_toolkit.library.onnx.writing import save_onnx
from deployment_toolkit.packing import packed_spec

_SPLIT_TAKES_SIZES = 13  # from this opset on as an input, before as an attribute


class PackedOnnx:
    """ONNX file -> the same model with packed inputs."""

    def convert(self, source: Path, target: Path) -> None:
        """Writes the file ``target``, and over 2 GiB ``<target>.data``. Raises UsageError for an input that can't be
        packed, ModelError if the source is no ONNX file or weights are missing, DataError if the disk is too full."""
        require_onnx_file(source)
        spec = packed_spec(OnnxLoader().read_spec(source))
        model = read_onnx(source, with_external_data=False)
        _Packer(model, spec).pack()
        save_onnx(model, source, target)


class _Packer:
    """Edit of ``model`` in place; ``spec`` is its packed signature."""

    def __init__(self, model: Any, spec: ModelSpec) -> None:
        self._model, self._graph, self._spec = model, model.graph, spec
        self._opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 1)
        self._taken = {name for part in graphs(self._graph) for name in _names(part)}
        self._new: list[Any] = []

    def pack(self) -> None:
        """Replaces inputs, adds nodes, and stores the signature."""
        own = self._spec.unpacked.inputs
        batch = next(value for value in self._graph.input if value.name == own[0].name).type.tensor_type.shape.dim[0]
        others = [value for value in self._graph.input if value.name not in {tensor.name for tensor in own}]
        del self._graph.input[:]
        # An own input, or a tensor inside, may have the name of a packed input.
        inner = {tensor.name: self._free(tensor.name) for tensor in self._spec.inputs if tensor.name in self._taken}
        rename_tensors(self._graph, inner)
        for tensor in self._spec.inputs:
            names = [inner.get(column.name, column.name) for column in tensor.columns]
            self._graph.input.append(_value(tensor, batch))
            self._join(tensor, names)
            if any(name in _used(self._graph) for name in names):
                self._split(tensor, names)
        self._graph.input.extend(others)
        nodes = [*self._new, *self._graph.node]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        told = {entry.key: entry.value for entry in self._model.metadata_props}
        helper.set_model_props(self._model, {**told, SPEC_KEY: json.dumps(self._spec.to_dict())})

    def _join(self, tensor: TensorSpec, names: Sequence[str]) -> None:
        """Feeds each ``Concat`` of own inputs from the packed one."""
        ends = itertools.accumulate(column.row_size for column in tensor.columns)
        places = {
            name: range(end - column.row_size, end)
            for name, column, end in zip(names, tensor.columns, ends, strict=True)
            if column.dtype == tensor.dtype and len(column.shape) == 1
        }
        for node in self._graph.node:
            if node.op_type != "Concat" or not all(name in places for name in node.input):
                continue
            if not any(item.name == "axis" and item.i in (1, -1) for item in node.attribute):
                continue
            wanted = [place for name in node.input for place in places[name]]
            whole = wanted == list(range(tensor.row_size))
            inputs = [tensor.name] if whole else [tensor.name, self._constant(wanted)]
            options = {} if whole else {"axis": 1}
            node.CopyFrom(
                helper.make_node("Identity" if whole else "Gather", inputs, node.output, node.name, **options)
            )

    def _split(self, tensor: TensorSpec, names: Sequence[str]) -> None:
        """Makes the own inputs from the packed one."""
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
        sizes = [column.row_size for column in tensor.columns]
        parts = []
        for column, name in zip(tensor.columns, names, strict=True):
            made = name
            if len(column.shape) != 1:
                part = self._free(name)
                shape = self._constant([0, *column.shape])  # 0 keeps the batch dimension
                self._new.append(helper.make_node("Reshape", [part, shape], [made]))
                made = part
            wanted = helper.np_dtype_to_tensor_dtype(np.dtype(column.dtype))
            if wanted != dtype:
                part = self._free(name)
                self._new.insert(0, helper.make_node("Cast", [part], [made], to=wanted))
                made = part
            parts.append(made)
        inputs = [tensor.name]
        options: dict[str, Any] = {"axis": 1}
        if self._opset < _SPLIT_TAKES_SIZES:
            options["split"] = sizes
        else:
            inputs.append(self._constant(sizes))
        self._new.insert(0, helper.make_node("Split", inputs, parts, **options))

    def _constant(self, values: Sequence[int]) -> str:
        name = self._free("packed_constant")
        self._graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def _free(self, name: str) -> str:
        free = next(text for number in itertools.count(1) if (text := f"{name}/packed_{number}") not in self._taken)
        self._taken.add(free)
        return free


def _value(tensor: TensorSpec, batch: Any) -> Any:
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    value = helper.make_tensor_value_info(tensor.name, dtype, [None, *tensor.shape])
    value.type.tensor_type.shape.dim[0].CopyFrom(batch)
    return value


def _names(graph: Any) -> Iterator[str]:
    """Names of all tensors of a graph."""
    for node in graph.node:
        yield from (*node.input, *node.output)
    yield from (value.name for value in (*graph.input, *graph.output, *graph.initializer))


def _used(graph: Any) -> set[str]:
    """Names of the tensors that are read: by nodes, also in the subgraphs of nodes, or as outputs."""
    inputs = {name for part in graphs(graph) for node in part.node for name in node.input}
    return inputs | {value.name for part in graphs(graph) for value in part.output}
