"""OpenVINO models, each a folder with ``model.xml`` and ``model.bin``, and their conversion from ONNX.

OpenVINO's ONNX reader copies the file's ``metadata_props`` into the model's runtime information, under ``framework``,
and ``model.xml`` stores that. So value ranges are inside the model, also if another tool converted it. The precision of
the conversion is next to them; if it is missing, it is float32.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openvino

from deployment_toolkit.core import Array, Arrays, Batch, Format, ModelSpec, Precision, Prediction, TensorSpec
from deployment_toolkit.errors import ConversionError, ModelError
from deployment_toolkit.files.atomic import require_free_space
from deployment_toolkit.hardware import require_precision, widest_is_avx2
from deployment_toolkit.library.base import SPEC_KEY, FrameworkSession, Loader
from deployment_toolkit.library.int8_choice import InPrecision, described
from deployment_toolkit.library.model_files import MAIN_FILES, require_onnx_file, stored_bytes
from deployment_toolkit.library.openvino.arithmetic import HINTS, PRECISION_KEY, parse_precision
from deployment_toolkit.library.openvino.graph import separate_activations, simplify, store_tables_in_bf16
from deployment_toolkit.library.openvino.int8 import Int8Quantizer
from deployment_toolkit.library.openvino.pack import pack_inputs
from deployment_toolkit.library.openvino.request import Request
from deployment_toolkit.packing import pack, packed_spec

_VERSION = openvino.__version__.partition("-")[0]  # without the build
MAIN_FILE = MAIN_FILES[Format.OPENVINO]

# No thread is bound to a core: the instances of a server are processes, and all would be bound to the same cores.
# One stream, also on hosts of several sockets: requests of a compiled model wait for each other.
_CONFIG = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
_IN_FLIGHT = 2
# Added after the weights, which are mapped into memory: AVX-512 kernels were seen to read past the end of their matrix.
SLACK_BYTES = 4096
# The exceptions of C++, as Python sees them; a damaged file causes each of them.
_FAILURES = (RuntimeError, LookupError, ValueError, ArithmeticError, MemoryError)
_SPEC_PATH = ["framework", SPEC_KEY]
_PRECISION_PATH = ["framework", PRECISION_KEY]
_KEPT_PATH = ["framework", "layers_in_higher_precision"]
_NOISE_PATH = ["framework", "noise"]


@functools.cache
def _core() -> Any:
    """The single OpenVINO core of this process, kept until it ends.

    The CPU plugin sets the thread's signal stack and restores the previous stack when a core is destroyed. With several
    cores the previous stack may be freed already, and Ctrl-C then causes a segmentation fault.
    """
    return openvino.Core()


class OpenVinoLoader(Loader):
    """A folder with ``model.xml`` and ``model.bin``, or the path of a ``model.xml`` -> OpenVINO on the CPU, in the
    precision that the model was converted for."""

    def load(self, path: Path) -> FrameworkSession:
        """Loads the model. Raises ModelError, and DeviceError if the CPU has no instructions for its precision."""
        model = _read(_core(), path)
        spec, precision = _read_spec(model), _read_precision(model, path)
        require_precision(precision, f"{path} can't run here")
        try:
            compiled = _compile(model, precision, self._threads)
        except _FAILURES as error:
            raise ModelError(f"{path} can't be compiled by OpenVINO {_VERSION}: {error}") from error
        return OpenVinoSession(compiled, spec)

    def read_spec(self, path: Path) -> ModelSpec:
        return _read_spec(_read(_core(), path))

    def precision(self, path: Path) -> Precision:
        return _read_precision(_read(_core(), path), path)

    def describe(self, path: Path) -> str:
        model = _read(_core(), path)
        if _read_precision(model, path) is not Precision.INT8:
            return ""
        kept, noise = (_told(model, part) for part in (_KEPT_PATH, _NOISE_PATH))
        return described(kept.split(), noise)


class OpenVinoSession(FrameworkSession):
    """A compiled model."""

    def __init__(self, compiled: Any, spec: ModelSpec) -> None:
        super().__init__(spec)
        self._compiled = compiled
        self._request = Request(compiled)
        self._outputs = [output.any_name for output in compiled.outputs]

    def infer_impl(self, x: Arrays) -> Arrays:
        with _model_errors():
            return self._named(self._request.ask(x))

    def predict(self, batches: Iterator[Batch]) -> Iterator[Prediction]:
        """As of every session. While a batch is computed, the next one waits in the engine, which so is never idle."""
        requests = itertools.cycle([Request(self._compiled) for _ in range(_IN_FLIGHT)])
        started: deque[tuple[Batch, Request]] = deque()
        try:
            for batch in batches:
                self._spec.unpacked.check_inputs(batch.x)
                request = next(requests)
                packed = pack(batch.x, self._spec)
                with _model_errors():
                    request.start(packed)
                started.append((batch, request))
                if len(started) == _IN_FLIGHT:
                    yield self._prediction(*started.popleft())
            while started:
                yield self._prediction(*started.popleft())
        finally:
            for _, request in started:
                request.drop()

    def _prediction(self, batch: Batch, request: Request) -> Prediction:
        with _model_errors():
            return Prediction(batch, self._named(request.answers()))

    def _named(self, answers: list[Array]) -> Arrays:
        return dict(zip(self._outputs, answers, strict=True))


@contextlib.contextmanager
def _model_errors() -> Iterator[None]:
    """Raises ModelError for what the engine raises."""
    try:
        yield
    except _FAILURES as error:
        raise ModelError(f"the model can't answer these rows: {' '.join(str(error).split())}") from error


class OpenVinoFromOnnx(InPrecision):
    """ONNX file -> OpenVINO folder with a simplified graph, tuned for CPUs like this one: in float32 its products are
    arranged for AVX2 if the CPU has no AVX-512. The model runs on any other CPU too.

    ``fp16`` halves the weights on disk; the arithmetic is fp32. ``bf16`` is arithmetic in bfloat16. ``int8`` needs
    ``calibration``, batches of training rows: hidden layers and embedding tables become integers as long as the noise
    stays below ``max_noise`` (see ``int8_choice.py``), the rest is bfloat16.
    """

    made = Format.OPENVINO
    precisions = tuple(HINTS)

    def convert(self, source: Path, target: Path) -> None:
        """Writes the folder ``target``. Raises ModelError if the source is no ONNX file, ConversionError if OpenVINO
        can't express it or rounding costs too much, DataError if the disk is too full, DeviceError if the CPU lacks the
        precision, InputError if calibration rows don't fit the signature."""
        require_onnx_file(source)
        require_precision(self._precision, f"a conversion to {self._precision}")
        require_free_space(target.parent, stored_bytes(source), "the OpenVINO model")
        try:
            model = _core().read_model(str(source))
            simplify(model)
            if HINTS[self._precision] == "f32" and widest_is_avx2():
                separate_activations(model)
            if self._precision is Precision.INT8:
                model = self._quantize(model)
            if HINTS[self._precision] == "bf16":
                store_tables_in_bf16(model)
            stated = Precision.FP32 if self._precision is Precision.FP16 else self._precision
            model.set_rt_info(str(stated), _PRECISION_PATH)
            _write(model, target, compress_to_fp16=self._precision is Precision.FP16)
        except RuntimeError as error:
            raise ConversionError(f"OpenVINO {_VERSION} can't convert {source}: {error}") from error

    def _quantize(self, model: Any) -> Any:
        spec = _read_spec(model)
        for batch in self._calibration:
            spec.check_inputs(batch)
        made = Int8Quantizer(model, self._calibration, _compile).quantize(self._max_noise)
        made.model.set_rt_info(" ".join(made.kept), _KEPT_PATH)
        made.model.set_rt_info(f"{made.noise:.2g}", _NOISE_PATH)
        return made.model


class PackedOpenVino:
    """OpenVINO folder -> the same model with packed inputs; weights and arithmetic stay."""

    def convert(self, source: Path, target: Path) -> None:
        """Writes the folder ``target``. Raises UsageError for an input that can't be packed, ModelError if the source
        is no OpenVINO model, DataError if the disk is too full."""
        model = _read(_core(), source)
        spec = packed_spec(_read_spec(model))
        require_free_space(target.parent, stored_bytes(source), "the packed OpenVINO model")
        pack_inputs(model, spec)
        model.set_rt_info(json.dumps(spec.to_dict()), _SPEC_PATH)
        _write(model, target, compress_to_fp16=False)  # weights that are in float16 stay so


def _write(model: Any, target: Path, *, compress_to_fp16: bool) -> None:
    openvino.save_model(model, str(target / MAIN_FILE), compress_to_fp16=compress_to_fp16)
    with (target / MAIN_FILE).with_suffix(".bin").open("ab") as weights:
        weights.write(bytes(SLACK_BYTES))


def _compile(model: Any, precision: Precision, threads: int | None = None) -> Any:
    config = _CONFIG | {"INFERENCE_PRECISION_HINT": HINTS[precision]}
    return _core().compile_model(
        model, "CPU", config if threads is None else config | {"INFERENCE_NUM_THREADS": threads}
    )


def _read(core: Any, path: Path) -> Any:
    file = path if path.suffix == ".xml" else path / MAIN_FILE
    for part in (file, file.with_suffix(".bin")):
        if not part.is_file():
            raise ModelError(f"{path} is no OpenVINO model (there is no {part}): convert the model first")
    try:
        return core.read_model(str(file))
    except _FAILURES as error:
        raise ModelError(f"{file} can't be read by OpenVINO {_VERSION}: {error}") from error


def _read_spec(model: Any) -> ModelSpec:
    spec = ModelSpec(tuple(map(_tensor_spec, model.inputs)), tuple(map(_tensor_spec, model.outputs)))
    if not model.has_rt_info(_SPEC_PATH):
        return spec
    return spec.described_by(ModelSpec.read(model.get_rt_info(_SPEC_PATH).value, "the OpenVINO model"))


def _read_precision(model: Any, path: Path) -> Precision:
    return parse_precision(_told(model, _PRECISION_PATH), path)


def _told(model: Any, path: list[str]) -> str:
    return str(model.get_rt_info(path).value) if model.has_rt_info(path) else ""


def _tensor_spec(port: Any) -> TensorSpec:
    name = port.any_name
    try:
        dtype = port.element_type.to_dtype().name
    except _FAILURES as error:
        raise ModelError(f"tensor {name} is of type {port.element_type}, which no Triton request can carry") from error
    sizes = list(port.partial_shape)[1:]
    return TensorSpec(name, dtype, tuple(-1 if size.is_dynamic else size.get_length() for size in sizes))
