"""Deployments that the options of ``triton-config-model`` allow, the preferred one first."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path

from deployment_toolkit.core import (
    Accelerator,
    Batching,
    DeviceKind,
    Format,
    Host,
    Mnemonic,
    ModelSpec,
    Precision,
)
from deployment_toolkit.deploying.deployment import (
    CPP_PRECISIONS,
    GPU_HOSTED,
    HOSTED,
    MODEL_FILES,
    Deployment,
    hosted_format,
)
from deployment_toolkit.errors import UsageError
from deployment_toolkit.files import fingerprint
from deployment_toolkit.library.base import stored_spec
from deployment_toolkit.library.openvino.arithmetic import arithmetic
from deployment_toolkit.library.registry import INSTEAD, loader
from deployment_toolkit.options.params import from_args, option
from deployment_toolkit.triton_server.config_keys import INFERENCE_PRECISION, THREADS
from navigator.attempts import ConversionStep
from navigator.conversions import Conversions, Made
from navigator.options import ModelOptions, TensorRTOptions, given, tell_unused
from navigator.reuse import Ledger
from navigator.signature import read_spec
from navigator.values import key_value

logger = logging.getLogger("model-navigator")

_PRECISIONS = (Precision.INT8, Precision.FP16, Precision.FP32)


class HostChoice(Mnemonic):
    """Host of the model: a value of ``Host``, or ``auto`` for the one that the server has."""

    AUTO = "auto"
    NATIVE = "native"
    PYTHON = "python"
    CPP = "cpp"


@dataclass(frozen=True)
class ConfigOptions:
    """Options of the model on the server."""

    host: HostChoice = option(
        "native: the server's own backend for the format; python: the framework in the Python backend, for servers "
        "without such a backend; cpp: OpenVINO in this project's own backend, in the embedded server; auto: native, "
        "and python if --load-model finds that the server has no such backend",
        HostChoice.AUTO,
    )
    batching: Batching = option(
        "disabled: the model gets requests unchanged; static: as batches, one by one; dynamic: the server joins them",
        Batching.STATIC,
    )
    max_batch_size: int = option("largest batch", 1)
    preferred_batch_sizes: list[int] = option("sizes that dynamic batching aims at", [], nargs="+")
    max_queue_delay_us: int = option("longest time that dynamic batching may delay a request, in microseconds", 0)
    engine_count_per_device: list[tuple[DeviceKind, int]] = option(
        "instances on a kind of device",
        [],
        type=key_value(DeviceKind, int),
        choices=None,
        nargs="+",
        metavar="{cpu,gpu}=N",
    )
    backend_accelerator: Accelerator = option("execution accelerator of the native backend", Accelerator.NONE)
    tensorrt_precision: Precision = option(
        "precision of the TensorRT accelerator",
        Precision.FP32,
        choices=_PRECISIONS,
        metavar="{" + ",".join(_PRECISIONS) + "}",
    )
    tensorrt_capture_cuda_graph: bool = option("run TensorRT plans as CUDA graphs", False)
    triton_backend_parameters: list[tuple[str, str]] = option(
        "parameters of the backend; the Python host takes threads=N, the threads of an instance; the C++ host takes "
        "threads=N, the threads of all instances, streams=N, the number of groups of threads, undivided_rows=N, the "
        "largest batch that all threads compute together, and inference_precision=f32|bf16, by default the model's",
        [],
        type=key_value(),
        nargs="+",
        metavar="KEY=VALUE",
    )


@dataclass(frozen=True)
class Choice:
    """A deployment, the options that it drops, and the format of its source model."""

    deployment: Deployment
    source_format: Format
    dropped: list[str] = field(default_factory=list)


def find_choices(args: argparse.Namespace) -> list[Choice]:
    """Deployments for the options: one, or with ``--host auto`` the native one, then the Python host's if there is one.
    Raises UsageError or ModelError if the options give no valid deployment."""
    model, config = from_args(ModelOptions, args), from_args(ConfigOptions, args)
    tensorrt = from_args(TensorRTOptions, args)
    model_format = model.find_format()
    spec = _find_spec(model, model_format)
    _tell_unused(config, tensorrt, model_format)
    if config.host is not HostChoice.AUTO:
        host = Host(config.host.value)
        config = _for_cpp(config, model, model_format) if host is Host.CPP else config
        return [Choice(_deployment(model, model_format, spec, config, tensorrt, host), model_format)]
    return [
        Choice(_deployment(model, model_format, spec, fitting, tensorrt, host), model_format, dropped)
        for host, (fitting, dropped) in ((Host.NATIVE, _for_native(config)), (Host.PYTHON, _for_python(config)))
        if host is Host.NATIVE or model_format in _hosted(config)
    ]


def _hosted(config: ConfigOptions) -> tuple[Format, ...]:
    """Formats that the Python host runs on these devices."""
    return GPU_HOSTED if DeviceKind.GPU in dict(config.engine_count_per_device) else HOSTED


def _for_cpp(config: ConfigOptions, model: ModelOptions, model_format: Format) -> ConfigOptions:
    """Options for the C++ host: with the model's arithmetic, unless the options name one. Raises UsageError for an
    ONNX file in int8, which only onnxruntime computes as it was judged."""
    if model_format is Format.ONNX and loader(model_format)().precision(model.model_path) is Precision.INT8:
        raise UsageError(
            f"{model.model_path} is in int8 for onnxruntime, which the C++ host has not: use --host python"
        )
    if INFERENCE_PRECISION in dict(config.triton_backend_parameters):
        return config
    wanted = arithmetic(model.model_path) if model_format is Format.OPENVINO else CPP_PRECISIONS[0]
    parameters = [*config.triton_backend_parameters, (INFERENCE_PRECISION, wanted)]
    return dataclasses.replace(config, triton_backend_parameters=parameters)


def _for_native(config: ConfigOptions) -> tuple[ConfigOptions, list[str]]:
    """Options for the native backend, and the dropped ones: engines on the CPU only have no accelerator."""
    on_cpu = {device for device, _ in config.engine_count_per_device} == {DeviceKind.CPU}
    if config.backend_accelerator is Accelerator.NONE or not on_cpu:
        return config, []
    fitting = dataclasses.replace(config, backend_accelerator=Accelerator.NONE)
    return fitting, [f"--backend-accelerator {config.backend_accelerator}"]


def _for_python(config: ConfigOptions) -> tuple[ConfigOptions, list[str]]:
    """Options for the Python host, and the dropped ones, which apply only to a native backend."""
    dropped = []
    if config.backend_accelerator is not Accelerator.NONE:
        dropped.append(f"--backend-accelerator {config.backend_accelerator}")
    if config.tensorrt_capture_cuda_graph:
        dropped.append("--tensorrt-capture-cuda-graph")
    kept = [(key, value) for key, value in config.triton_backend_parameters if key == THREADS]
    lost = [f"{key}={value}" for key, value in config.triton_backend_parameters if key != THREADS]
    if lost:
        dropped.append(f"--triton-backend-parameters {' '.join(lost)}")
    fitting = dataclasses.replace(
        config,
        backend_accelerator=Accelerator.NONE,
        tensorrt_capture_cuda_graph=False,
        triton_backend_parameters=kept,
    )
    return fitting, dropped


def _deployment(
    model: ModelOptions,
    model_format: Format,
    spec: ModelSpec,
    config: ConfigOptions,
    tensorrt: TensorRTOptions,
    host: Host,
) -> Deployment:
    return Deployment(
        name=model.model_name,
        spec=spec,
        format=hosted_format(model_format, host),
        version=model.model_version,
        host=host,
        batching=config.batching,
        max_batch_size=config.max_batch_size,
        preferred_batch_sizes=tuple(config.preferred_batch_sizes),
        max_queue_delay_us=config.max_queue_delay_us,
        engine_count_per_device=dict(config.engine_count_per_device),
        backend_accelerator=config.backend_accelerator,
        precision=config.tensorrt_precision,
        tensorrt_capture_cuda_graph=config.tensorrt_capture_cuda_graph,
        tensorrt_max_workspace_size_bytes=tensorrt.tensorrt_max_workspace_size,
        backend_parameters=dict(config.triton_backend_parameters),
    )


def _tell_unused(config: ConfigOptions, tensorrt: TensorRTOptions, model_format: Format) -> None:
    if model_format is not Format.TRT:
        flags = given(config, "tensorrt_capture_cuda_graph")
        tell_unused(flags, f"CUDA graphs are captured of TensorRT plans only, not of {model_format}")
    if config.batching is not Batching.DYNAMIC:
        flags = given(config, "preferred_batch_sizes", "max_queue_delay_us")
        tell_unused(flags, "they are for --batching dynamic")
    if config.backend_accelerator is not Accelerator.TRT:
        flags = given(config, "tensorrt_precision") + given(tensorrt)
        tell_unused(flags, "they are for --backend-accelerator trt")
    if config.batching is Batching.DISABLED:
        tell_unused(given(config, "max_batch_size"), "the server does no batching")


def _find_spec(model: ModelOptions, model_format: Format) -> ModelSpec:
    """Signature from the options, with value ranges that an export stored with the model, else from the model."""
    if model_format not in MODEL_FILES:
        raise UsageError(f"no server here runs {model_format}: {INSTEAD.get(model_format, 'use tf-savedmodel')}")
    if bool(model.inputs) != bool(model.outputs):
        raise UsageError("give both --inputs and --outputs, or neither")
    if not model.inputs:
        return read_spec(model.model_path, model_format)
    told = ModelSpec(*(tuple(tensor.spec for tensor in tensors) for tensors in (model.inputs, model.outputs)))
    stored = stored_spec(model.model_path)
    return told if stored is None else told.with_value_ranges(stored.value_ranges)


MADE = "hosted"  # folder in the workspace


@dataclass(frozen=True)
class Sources:
    """The model ``given``, and converted models in ``workspace``."""

    given: Path
    workspace: Path

    def model_for(self, choice: Choice) -> Path:
        """Path of the model that a deployment serves, converted if necessary. Raises the errors of the converter."""
        source, wanted = choice.source_format, choice.deployment.format
        if source is wanted:
            return self.given
        folder = self.workspace / MADE
        folder.mkdir(parents=True, exist_ok=True)
        made = Made(self.given, source, fingerprint.of_path(self.given), reused=True)
        step = ConversionStep(str(wanted), source, wanted, {"precision": Precision.FP32})
        return Conversions(made, folder, Ledger(folder / "state.yaml"), {}, []).make([step]).path
