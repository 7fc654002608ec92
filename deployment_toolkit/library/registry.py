"""Registry of loaders, savers and converters by format; a module is imported on first use."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from deployment_toolkit.core import Format, ModelSpec, Precision
from deployment_toolkit.errors import UsageError
from deployment_toolkit.library.base import stored_spec
from deployment_toolkit.tensorflow_import import prepare_tensorflow

LOADERS = {
    Format.TF_KERAS: "deployment_toolkit.library.tensorflow.session:KerasLoader",
    Format.TF_SAVEDMODEL: "deployment_toolkit.library.tensorflow.session:SavedModelLoader",
    Format.TF_TRT: "deployment_toolkit.library.tensorflow.tf_trt:TfTrtLoader",
    Format.ONNX: "deployment_toolkit.library.onnx.session:OnnxLoader",
    Format.TRT: "deployment_toolkit.library.tensorrt.session:TensorRTLoader",
    Format.OPENVINO: "deployment_toolkit.library.openvino.session:OpenVinoLoader",
}

SAVERS = {
    (Format.TF_KERAS, Format.TF_SAVEDMODEL): "deployment_toolkit.library.tensorflow.session:SavedModelFromKeras",
    (Format.TF_KERAS, Format.ONNX): "deployment_toolkit.library.tensorflow.session:OnnxFromKeras",
}

_COPY = "deployment_toolkit.library.base:CopyModel"
CONVERTERS = {
    (Format.TF_SAVEDMODEL, Format.TF_SAVEDMODEL): _COPY,
    (Format.TF_SAVEDMODEL, Format.TF_TRT): "deployment_toolkit.library.tensorflow.tf_trt:TfTrtFromSavedModel",
    (Format.TF_SAVEDMODEL, Format.ONNX): "deployment_toolkit.library.tensorflow.session:OnnxFromSavedModel",
    (Format.TF_TRT, Format.TF_TRT): _COPY,
    (Format.ONNX, Format.ONNX): "deployment_toolkit.library.onnx.in_precision:OnnxInPrecision",
    (Format.ONNX, Format.TRT): "deployment_toolkit.library.tensorrt.builder:TensorRTFromOnnx",
    (Format.ONNX, Format.OPENVINO): "deployment_toolkit.library.openvino.session:OpenVinoFromOnnx",
    (Format.TRT, Format.TRT): _COPY,
    (Format.OPENVINO, Format.OPENVINO): _COPY,
}

# Read without the runtime, whose import takes seconds.
PRECISIONS = {
    Format.TF_SAVEDMODEL: "deployment_toolkit.library.tensorflow.precision:narrowest",
    Format.ONNX: "deployment_toolkit.library.onnx.precision:narrowest",
    Format.OPENVINO: "deployment_toolkit.library.openvino.arithmetic:narrowest",
}

RENAMERS = {
    Format.TF_SAVEDMODEL: "deployment_toolkit.library.tensorflow.rename:RenamedSavedModel",
    Format.ONNX: "deployment_toolkit.library.onnx.rename:RenamedOnnx",
}

PACKERS = {
    Format.TF_SAVEDMODEL: "deployment_toolkit.library.tensorflow.pack:PackedSavedModel",
    Format.ONNX: "deployment_toolkit.library.onnx.pack:PackedOnnx",
    Format.OPENVINO: "deployment_toolkit.library.openvino.session:PackedOpenVino",
}

INSTEAD = {
    Format.TF_ESTIMATOR: "the estimator API is gone from TensorFlow: use tf-keras",
    Format.PYT: "this is a TensorFlow model: use tf-keras",
    Format.TORCHSCRIPT: "this is a TensorFlow model: use tf-savedmodel or onnx",
}


def loader(model_format: Format) -> Any:
    """Loader class of a format: ``loader(format)(threads=N).load(path) -> FrameworkSession``."""
    return _find(LOADERS, model_format, f"no model of format {model_format} can be run here", model_format)


def saver(source: Format, target: Format) -> Any:
    """Class that exports a model of the user's code: ``saver(...)().save(model, path)``."""
    unsupported = target if target in INSTEAD else source
    return _find(SAVERS, (source, target), f"{source} can't be exported as {target}", unsupported)


def converter(source: Format, target: Format) -> Any:
    """Class that converts one stored format to another: ``converter(...)().convert(source_path, target_path)``."""
    unsupported = target if target in INSTEAD else source
    return _find(CONVERTERS, (source, target), f"{source} can't be converted to {target}", unsupported)


def stored_precision(model_format: Format, path: Path) -> Precision:
    """Narrowest number format that the model at ``path`` is known to compute in. Raises ModelError if it can't be
    read."""
    precision: Precision = _find(PRECISIONS, model_format, f"{model_format} names no precision", model_format)(path)
    return precision


def read_spec(model_format: Format, path: Path) -> ModelSpec:
    """Signature of a stored model: from the file that an export stored in its folder, without a runtime, else from the
    model. Raises ModelError if it can't be read."""
    spec: ModelSpec = stored_spec(path) or loader(model_format)().read_spec(path)
    return spec


def renamer(model_format: Format) -> Any:
    """Class that copies a model with other tensor names: ``renamer(format)(inputs={old: new}, outputs={old:
    new}).convert(source_path, target_path)``."""
    return _find(RENAMERS, model_format, f"tensors of {model_format} can't be renamed", model_format)


def packer(model_format: Format) -> Any:
    """Class that copies a model with packed inputs: ``packer(format)().convert(source_path, target_path)``."""
    return _find(PACKERS, model_format, f"inputs of {model_format} can't be packed", model_format)


def _find(table: dict[Any, str], key: Any, problem: str, unsupported: Format) -> Any:
    if key not in table:
        choices = ", ".join(" -> ".join(map(str, item)) if isinstance(item, tuple) else str(item) for item in table)
        raise UsageError(f"{problem}: {INSTEAD.get(unsupported, 'supported are ' + choices)}")
    prepare_tensorflow()
    module_name, _, class_name = table[key].partition(":")
    return getattr(importlib.import_module(module_name), class_name)
