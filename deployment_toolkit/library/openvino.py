"""OpenVINO: a folder with ``model.xml`` and ``model.bin``, and how it is made of an ONNX file.

The ONNX reader of OpenVINO keeps the file's ``metadata_props`` in the model's runtime information, under
``framework``, and ``model.xml`` holds that: so value ranges travel inside the model, whoever converted it.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import openvino

from deployment_toolkit.core import Arrays, Format, ModelSpec, Precision, TensorSpec
from deployment_toolkit.errors import ConversionError, ModelError, UsageError
from deployment_toolkit.files import require_free_space, size_bytes
from deployment_toolkit.library.base import SPEC_KEY, FrameworkSession, Loader
from deployment_toolkit.model_files import MAIN_FILES

_VERSION = openvino.__version__.partition("-")[0]  # without the build
MAIN_FILE = MAIN_FILES[Format.OPENVINO]

# Weights and activations in float32 (the CPU plugin takes bfloat16 by itself where the CPU has it), and no thread bound
# to a core: the instances of a server are processes that would all be bound to the same ones.
_CONFIG = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
_SPEC_PATH = ["framework", SPEC_KEY]


@functools.cache
def _core() -> Any:
    """The only one of this process, kept to its end: the CPU plugin lends the thread a stack for signals, and puts back
    the one before when it goes. With several, that may be one that is gone, and Ctrl-C a segmentation fault."""
    return openvino.Core()


class OpenVinoLoader(Loader):
    """A folder with ``model.xml`` and ``model.bin``, or the path of a ``model.xml`` -> OpenVINO on the CPU, float32."""

    def load(self, path: Path) -> FrameworkSession:
        core = _core()
        model = _read(core, path)
        spec = _read_spec(model)
        threads = {} if self._threads is None else {"INFERENCE_NUM_THREADS": self._threads}
        try:
            compiled = core.compile_model(model, "CPU", _CONFIG | threads)
        except RuntimeError as error:
            raise ModelError(f"{path} can't be compiled by OpenVINO {_VERSION}: {error}") from error
        return OpenVinoSession(compiled, spec)

    def read_spec(self, path: Path) -> ModelSpec:
        return _read_spec(_read(_core(), path))


class OpenVinoSession(FrameworkSession):
    """A compiled model with one inference request."""

    def __init__(self, compiled: Any, spec: ModelSpec) -> None:
        super().__init__(spec)
        self._request = compiled.create_infer_request()
        self._outputs = [(output.any_name, output) for output in compiled.outputs]

    def infer_impl(self, x: Arrays) -> Arrays:
        # The engine reads the inputs where they are; its outputs are copied, for the next inference overwrites them.
        answers = self._request.infer(x, share_inputs=True, share_outputs=False)
        return {name: answers[output] for name, output in self._outputs}


class OpenVinoFromOnnx:
    """ONNX file -> OpenVINO folder; ``fp16`` halves the weights on disk, the arithmetic stays that of the loader."""

    def __init__(self, *, precision: Precision = Precision.FP32) -> None:
        if precision not in (Precision.FP32, Precision.FP16):
            raise UsageError(f"openvino has no weights of {precision}: use fp32 or fp16")
        self._precision = precision

    def convert(self, source: Path, target: Path) -> None:
        """Writes the folder ``target``. Raises ModelError if the source is no ONNX file, ConversionError if OpenVINO
        can't express it, DataError if the disk has no room."""
        if not source.is_file():
            raise ModelError(f"there is no ONNX file at {source}: convert the model first")
        require_free_space(target.parent, size_bytes(source), "the OpenVINO model")
        try:
            model = _core().read_model(str(source))
            openvino.save_model(model, str(target / MAIN_FILE), compress_to_fp16=self._precision is Precision.FP16)
        except RuntimeError as error:
            raise ConversionError(f"OpenVINO {_VERSION} can't convert {source}: {error}") from error


def _read(core: Any, path: Path) -> Any:
    file = path if path.suffix == ".xml" else path / MAIN_FILE
    for part in (file, file.with_suffix(".bin")):
        if not part.is_file():
            raise ModelError(f"{path} is no OpenVINO model (there is no {part}): convert the model first")
    try:
        return core.read_model(str(file))
    except RuntimeError as error:
        raise ModelError(f"{file} can't be read by OpenVINO {_VERSION}: {error}") from error


def _read_spec(model: Any) -> ModelSpec:
    spec = ModelSpec(tuple(map(_tensor_spec, model.inputs)), tuple(map(_tensor_spec, model.outputs)))
    if not model.has_rt_info(_SPEC_PATH):
        return spec
    stored = ModelSpec.from_dict(json.loads(model.get_rt_info(_SPEC_PATH).value))
    return spec.with_value_ranges(stored.value_ranges)


def _tensor_spec(port: Any) -> TensorSpec:
    name = port.any_name
    try:
        dtype = port.element_type.to_dtype().name
    except RuntimeError as error:
        raise ModelError(f"tensor {name} is of type {port.element_type}, which no Triton request can carry") from error
    sizes = list(port.partial_shape)[1:]
    return TensorSpec(name, dtype, tuple(-1 if size.is_dynamic else size.get_length() for size in sizes))
