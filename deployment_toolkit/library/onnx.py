"""ONNX files in onnxruntime. Value ranges travel in the file's ``metadata_props`` under ``model_spec``, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxruntime

from deployment_toolkit.core import Arrays, ModelSpec, TensorSpec
from deployment_toolkit.errors import ModelError
from deployment_toolkit.library.base import SPEC_KEY, FrameworkSession, Loader

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


class OnnxLoader(Loader):
    """``model.onnx`` -> onnxruntime on the CPU."""

    def load(self, path: Path) -> FrameworkSession:
        options = onnxruntime.SessionOptions()
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        return OnnxSession(_open(path, options))

    def read_spec(self, path: Path) -> ModelSpec:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return _read_spec(_open(path, options))


class OnnxSession(FrameworkSession):
    """An onnxruntime session."""

    def __init__(self, session: Any) -> None:
        super().__init__(_read_spec(session))
        self._session = session
        self._outputs = [spec.name for spec in self.spec.outputs]

    def infer_impl(self, x: Arrays) -> Arrays:
        return dict(zip(self._outputs, self._session.run(self._outputs, x), strict=True))


def _open(path: Path, options: Any) -> Any:
    if not path.is_file():
        raise ModelError(f"there is no ONNX file at {path}: convert the model first")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise ModelError(f"{path} can't be loaded by onnxruntime {onnxruntime.__version__}: {error}") from error


def _read_spec(session: Any) -> ModelSpec:
    spec = ModelSpec(
        inputs=tuple(_tensor_spec(node) for node in session.get_inputs()),
        outputs=tuple(_tensor_spec(node) for node in session.get_outputs()),
    )
    stored = session.get_modelmeta().custom_metadata_map.get(SPEC_KEY)
    return spec if stored is None else spec.with_value_ranges(ModelSpec.from_dict(json.loads(stored)).value_ranges)


def _tensor_spec(node: Any) -> TensorSpec:
    if node.type not in _DTYPES:
        raise ModelError(f"tensor {node.name} is of type {node.type}, which no Triton request can carry here")
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape[1:])
    return TensorSpec(node.name, _DTYPES[node.type], shape)
