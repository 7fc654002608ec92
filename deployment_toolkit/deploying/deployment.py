"""Settings of a deployed model, and the checks between them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from deployment_toolkit.core import (
    Accelerator,
    Batching,
    DeviceKind,
    Format,
    Host,
    ModelSpec,
    Precision,
    TensorSpec,
)
from deployment_toolkit.deploying.queue_policy import NO_DELAY, NO_LIMIT, QueuePolicy
from deployment_toolkit.errors import UsageError
from deployment_toolkit.library.openvino.arithmetic import HINTS
from deployment_toolkit.library.registry import INSTEAD
from deployment_toolkit.library.tensorrt.api import DEFAULT_WORKSPACE_BYTES
from deployment_toolkit.options.located_yaml import MOST
from deployment_toolkit.triton_server.config_keys import (
    ACCEPTED,
    INFERENCE_PRECISION,
    MODEL_SPEC,
    NON_FINITE,
    REFUSED,
    STREAMS,
    THREADS,
    UNDIVIDED_ROWS,
)

MODEL_FILES = {
    Format.TF_SAVEDMODEL: "model.savedmodel",
    Format.TF_TRT: "model.savedmodel",
    Format.ONNX: "model.onnx",
    Format.TRT: "model.plan",
    Format.OPENVINO: "model.xml",
}
DTYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "object": "TYPE_STRING",
}

NEEDS_NATIVE = "which neither host can answer with: it needs a server with the format's own backend"

_ACCELERATORS = {
    Format.TF_SAVEDMODEL: (Accelerator.NONE, Accelerator.AMP, Accelerator.TRT),
    Format.TF_TRT: (Accelerator.NONE, Accelerator.AMP, Accelerator.TRT),
    Format.ONNX: (Accelerator.NONE, Accelerator.TRT),
    Format.TRT: (Accelerator.NONE,),
    Format.OPENVINO: (Accelerator.NONE,),
}
# Device kind of a format's native backend, if it can't run on both kinds.
_DEVICES = {Format.TRT: DeviceKind.GPU, Format.TF_TRT: DeviceKind.GPU, Format.OPENVINO: DeviceKind.CPU}
# Formats that the Python host runs, and those of them that it can run on a GPU.
HOSTED = (Format.TF_SAVEDMODEL, Format.ONNX, Format.OPENVINO)
GPU_HOSTED = (Format.ONNX,)
# Values of the C++ host's parameter that names its arithmetic, by the formats that it runs.
CPP_PRECISIONS = {
    Format.TF_SAVEDMODEL: ("f32", "f16", "bf16"),
    Format.ONNX: ("f32", "f16", "int8"),
    Format.OPENVINO: ("f32", "bf16"),
}
CPP_PARAMETERS = (THREADS, STREAMS, UNDIVIDED_ROWS, INFERENCE_PRECISION, NON_FINITE)
PYTHON_PARAMETERS = (THREADS, NON_FINITE)
_MOST_NAME_BYTES = 255


def cpp_precision(model_format: Format, precision: Precision) -> str:
    """Arithmetic with which the C++ host runs a model whose narrowest number format is ``precision``."""
    if model_format is Format.OPENVINO:
        return HINTS[precision]
    names = {Precision.FP16: "f16", Precision.BF16: "bf16", Precision.INT8: "int8"}
    return names.get(precision, "f32")


def name_problems(name: str) -> Iterator[str]:
    """Problems of a model's name, which is also the name of its folder in a repository. Triton's HTTP front end does
    not find a model by letters beyond ASCII."""
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        yield "a model's name is made of letters from A to Z, digits, '_', '-' and '.'"
    if (size := len(name.encode())) > _MOST_NAME_BYTES:
        yield f"its name has {size} bytes, a folder's name at most {_MOST_NAME_BYTES}: choose a shorter one"


@dataclass(frozen=True)
class Deployment:
    """Settings with which a server runs a model.

    ``engine_count_per_device`` is the number of instances per kind of device; without it the Python host and the
    OpenVINO backend run one instance on the CPU, any other backend one on a device that the server chooses.

    ``backend_parameters`` are passed to a native backend unchanged. The Python host takes ``threads``, the threads of
    one instance. The C++ host takes ``threads``, the threads of all instances together; ``streams``, the number of
    concurrent inferences, which share the threads (a large batch is divided among them; by default one for each
    thread); ``undivided_rows``, the largest batch that all threads compute together instead (by default 64 in float32,
    else 256); and ``inference_precision``. Both hosts take ``non_finite``: ``refused`` by default, so that a request
    with NaN or an infinity is answered with an error; ``accepted`` for a model that was made for such numbers.

    ``packed_inputs`` are the inputs of a packed model whose requests bring a tensor for each column: the C++ host packs
    them.

    ``precision`` applies to the TensorRT accelerator. Preferred sizes and delay apply to dynamic batching only. A
    ``queue`` with limits needs dynamic batching. Batches of ``warmup_batch_sizes`` are computed when the model is
    loaded. Raises UsageError if the settings contradict each other.
    """

    name: str
    spec: ModelSpec
    format: Format
    version: int = 1
    host: Host = Host.NATIVE
    batching: Batching = Batching.STATIC
    max_batch_size: int = 1
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_us: int = 0
    queue: QueuePolicy = NO_LIMIT
    warmup_batch_sizes: tuple[int, ...] = ()
    engine_count_per_device: Mapping[DeviceKind, int] = field(default_factory=dict)
    backend_accelerator: Accelerator = Accelerator.NONE
    packed_inputs: tuple[TensorSpec, ...] = ()
    precision: Precision = Precision.FP32
    tensorrt_capture_cuda_graph: bool = False
    tensorrt_max_workspace_size_bytes: int = DEFAULT_WORKSPACE_BYTES
    backend_parameters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = next(self._problems(), None)
        if problem is not None:
            raise UsageError(f"model {self.name} can't be deployed like this: {problem}")

    @property
    def model_file(self) -> str:
        """Name of the model's file or folder inside its version folder."""
        return MODEL_FILES[self.format]

    def _problems(self) -> Iterator[str]:
        yield from name_problems(self.name)
        if self.version < 1:
            yield f"version {self.version} is no folder a server looks into: use 1 or more"
        if self.format not in MODEL_FILES:
            yield f"no server runs {self.format}: {INSTEAD.get(self.format, 'export it as tf-savedmodel first')}"
        hosts = {Host.PYTHON: self._python_problems, Host.CPP: self._cpp_problems}
        yield from hosts.get(self.host, self._native_problems)()
        yield from self._number_problems()
        yield from self._batching_problems()
        if self.packed_inputs and self.host is not Host.CPP:
            yield "only the C++ host packs the inputs of requests: use host cpp"
        for device, count in self.engine_count_per_device.items():
            if count < 1:
                yield f"engine count {device}={count}: use 1 or more"
        for tensor in (*self.spec.inputs, *self.spec.outputs):
            if tensor.dtype not in DTYPES:
                yield f"tensor {tensor.name} is of dtype {tensor.dtype}, which a server can't carry"

    def _python_problems(self) -> Iterator[str]:
        if self.format not in HOSTED:
            yield f"there is no Python host for {self.format}: it needs a server with the format's own backend"
        elif DeviceKind.GPU in self.engine_count_per_device and self.format not in GPU_HOSTED:
            yield (
                f"the Python host runs {self.format} on a cpu only: give engines for cpu, or convert it to "
                f"{' or '.join(GPU_HOSTED)}, which the host runs on a gpu too"
            )
        if self.backend_accelerator is not Accelerator.NONE:
            yield f"accelerator {self.backend_accelerator} belongs to a native backend: with the Python host use none"
        yield from self._parameter_problems("the Python host", PYTHON_PARAMETERS)
        for tensor in self.spec.outputs:
            if tensor.dtype == "object":
                yield f"output {tensor.name} holds strings, {NEEDS_NATIVE}"

    def _cpp_problems(self) -> Iterator[str]:
        if self.format not in CPP_PRECISIONS:
            yield f"there is no C++ host for {self.format}: convert it to {' or '.join(CPP_PRECISIONS)}"
            return
        if DeviceKind.GPU in self.engine_count_per_device:
            yield "the C++ host runs on a cpu only: give engines for cpu"
        if self.backend_accelerator is not Accelerator.NONE:
            yield f"accelerator {self.backend_accelerator} belongs to a native backend: with the C++ host use none"
        yield from self._parameter_problems("the C++ host", CPP_PARAMETERS)
        precisions = CPP_PRECISIONS[self.format]
        precision = self.backend_parameters.get(INFERENCE_PRECISION, precisions[0])
        if precision not in precisions:
            yield f"{INFERENCE_PRECISION}={precision}: for {self.format} use {' or '.join(precisions)}"
        for tensor in self.spec.outputs:
            if tensor.dtype == "object":
                yield f"output {tensor.name} holds strings, {NEEDS_NATIVE}"
        for tensor in self.spec.inputs:
            if tensor.dtype == "object":
                yield f"input {tensor.name} holds strings, which the C++ host can't carry: use the Python host"

    def _parameter_problems(self, host: str, known: tuple[str, ...]) -> Iterator[str]:
        unknown = sorted(self.backend_parameters.keys() - {*known})
        if unknown:
            yield f"{host} has no parameter {unknown[0]}, only {', '.join(known)}"
        for name in {*known} & {THREADS, STREAMS}:
            if not re.fullmatch(r"[1-9]\d*", self.backend_parameters.get(name, "1")):
                yield f"{name}={self.backend_parameters[name]}: use 1 or more"
        if UNDIVIDED_ROWS in known and not re.fullmatch(r"\d+", self.backend_parameters.get(UNDIVIDED_ROWS, "0")):
            yield f"{UNDIVIDED_ROWS}={self.backend_parameters[UNDIVIDED_ROWS]}: use 0 or more"
        if self.backend_parameters.get(NON_FINITE, REFUSED) not in (REFUSED, ACCEPTED):
            yield f"{NON_FINITE}={self.backend_parameters[NON_FINITE]}: use {REFUSED} or {ACCEPTED}"

    def _native_problems(self) -> Iterator[str]:
        if self.backend_accelerator not in _ACCELERATORS[self.format]:
            choices = ", ".join(map(str, _ACCELERATORS[self.format]))
            yield f"the backend of {self.format} has no accelerator {self.backend_accelerator}: use one of {choices}"
        if self.backend_accelerator is Accelerator.TRT and self.precision is Precision.TF32:
            yield "the TensorRT accelerator has no precision tf32: use int8, fp16 or fp32"
        device = _DEVICES.get(self.format)
        if device is not None and self.engine_count_per_device.keys() - {device}:
            yield f"the backend of {self.format} runs on a {device} only: give engines for {device}"
        on_cpu = self.engine_count_per_device.keys() == {DeviceKind.CPU}
        if self.backend_accelerator is not Accelerator.NONE and on_cpu:
            yield f"accelerator {self.backend_accelerator} is one of a gpu: give engines for gpu, or accelerator none"
        reserved = sorted(self.backend_parameters.keys() & {MODEL_SPEC})
        if reserved:
            yield f"backend parameter {reserved[0]} is written from the model's signature: leave it out"

    def _number_problems(self) -> Iterator[str]:
        """Numbers that a configuration has no room for."""
        counts = {f"engine count {device}": count for device, count in self.engine_count_per_device.items()}
        numbers = {"max batch size": self.max_batch_size, "max queue delay": self.max_queue_delay_us, **counts}
        for name, value in numbers.items():
            if value > MOST:
                yield f"{name} {value}: use at most {MOST}"

    def _batching_problems(self) -> Iterator[str]:
        if self.batching is not Batching.DISABLED and self.max_batch_size < 1:
            yield f"max batch size {self.max_batch_size}: use 1 or more, or batching disabled"
        if self.queue.is_set and self.batching is not Batching.DYNAMIC:
            yield f"a queue with limits or priorities needs batching dynamic, not {self.batching}"
        if self.queue.is_set and self.max_queue_delay_us:
            yield f"max queue delay {self.max_queue_delay_us} us: {NO_DELAY}"
        largest = 1 if self.batching is Batching.DISABLED else self.max_batch_size
        for size in self.warmup_batch_sizes:
            if not 1 <= size <= largest:
                yield f"warmup batch size {size} is outside 1 .. {largest}, what the model takes"
        if self.batching is Batching.DYNAMIC:
            for size in self.preferred_batch_sizes:
                if not 1 <= size <= self.max_batch_size:
                    yield f"preferred batch size {size} is outside 1 .. {self.max_batch_size}, the max batch size"
            if self.max_queue_delay_us < 0:
                yield f"max queue delay {self.max_queue_delay_us} us: use 0 or more"
