"""From a file that triton-model-navigator made to a model with this project's signature."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deployment_toolkit.core import Format, ModelSpec
from deployment_toolkit.errors import ConversionError
from deployment_toolkit.library import registry
from deployment_toolkit.library.base import SPEC_FILE, store_spec
from deployment_toolkit.library.tensorrt.plan import PlanBuild, write_plan


def finish(
    made: Mapping[str, Any], target: tuple[Path, Format], spec: ModelSpec, *, gpus: Sequence[str], precision: str
) -> None:
    """Writes the model of the library's summary ``made`` to the target's path, with the columns and value ranges of
    ``spec``. Raises ConversionError if names or dtypes of an ONNX file are not those of ``spec``."""
    path, model_format = target
    source = Path(made["model"])
    if model_format is Format.ONNX:
        from deployment_toolkit.library.onnx.describe import describe_onnx  # the import of ONNX itself takes time

        _require_signature(registry.loader(model_format)().read_spec(source), spec)
        describe_onnx(source, path, spec)
    elif model_format is Format.TRT:
        build = PlanBuild(str(made["tensorrt"]), gpus[0], (str(precision),))
        write_plan(path, memoryview(source.read_bytes()), spec, build)
    else:
        shutil.copytree(source, path)
        store_spec(path / SPEC_FILE, spec)


def _require_signature(found: ModelSpec, wanted: ModelSpec) -> None:
    for kind, own, other in (("inputs", wanted.inputs, found.inputs), ("outputs", wanted.outputs, found.outputs)):
        told, made = ({tensor.name: tensor.dtype for tensor in tensors} for tensors in (own, other))
        if told != made:
            raise ConversionError(f"the file that was made has the {kind} {made}, the model has {told}")
