"""Deployments that the options of ``triton-config-model`` allow, the preferred one first."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
from collections.abc import Sequence
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
    CPP_PARAMETERS,
    CPP_PRECISIONS,
    GPU_HOSTED,
    HOSTED,
    MODEL_FILES,
    PYTHON_PARAMETERS,
    Deployment,
    cpp_precision,
)
from deployment_toolkit.errors import UsageError
from deployment_toolkit.library.base import stored_spec
from deployment_toolkit.library.model_files import fingerprint_of
from deployment_toolkit.library.registry import INSTEAD, PACKERS, stored_precision
from deployment_toolkit.options.params import from_args, option
from deployment_toolkit.packing import packed_spec
from deployment_toolkit.triton_server.config_keys import INFERENCE_PRECISION
from navigator.attempts import ConversionStep
from navigator.conversions import Conversions, Made
from navigator.options import ModelOptions, TensorRTOptions, given, tell_unused
from navigator.queue_options import QueueOptions, WarmupOptions
from navigator.reuse import Ledger
from navigator.signature import read_spec
from navigator.values import key_value, last_by_key

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
        "without such a backend; cpp: the framework in this project's own backend, in the embedded server; auto: "
        "native, then cpp, then python if --load-model finds that the server has no such backend",
        HostChoice.AUTO,
    )
    batching: Batching = option(
        "disabled: the model gets requests unchanged; static: as batches, one by one; dynamic: the server joins them",
        Batching.STATIC,
    )
    max_batch_size: int = option("largest batch", 1)
    preferred_batch_sizes: list[int] = option("sizes that dynamic batching aims at", [], nargs="+", unique=True)
    max_queue_delay_us: int = option("longest time that dynamic batching may delay a request, in microseconds", 0)
    engine_count_per_device: list[tuple[DeviceKind, int]] = option(
        "instances on a kind of device",
        [],
        type=key_value(lambda text: DeviceKind(text.casefold()), int),
        choices=None,
        nargs="+",
        adds_up=True,
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
    packed_inputs: bool = option(
        "serve the model with one tensor of all numbers and one of all ids, in place of a tensor for each input", False
    )
    separate_inputs_name: str | None = option(
        "with --packed-inputs and --host cpp: name of a second model that takes a tensor for each input; both share "
        "the loaded model and its memory",
        None,
    )
    triton_backend_parameters: list[tuple[str, str]] = option(
        "parameters of the backend; the Python host takes threads=N, the threads of an instance; the C++ host takes "
        "threads=N, the threads of all instances, streams=N, the number of concurrent inferences, undivided_rows=N, "
        "the largest batch that all threads compute together, inference_precision=f32|f16|bf16|int8, by default the "
        "model's, and for an ONNX file engine=openvino, which converts it for OpenVINO; both hosts take "
        "non_finite=refused|accepted, what happens to a request with NaN or an infinity",
        [],
        type=key_value(),
        nargs="+",
        adds_up=True,
        metavar="KEY=VALUE",
    )

    def with_last_values(self) -> ConfigOptions:
        """The same options with one value for each device and each parameter, the last one."""
        counts = last_by_key("--engine-count-per-device", self.engine_count_per_device)
        parameters = last_by_key("--triton-backend-parameters", self.triton_backend_parameters)
        return dataclasses.replace(
            self,
            engine_count_per_device=list(counts.items()),
            triton_backend_parameters=list(parameters.items()),
        )


@dataclass(frozen=True)
class Choice:
    """A deployment, the options that it drops, the format of its source model, True if the inputs of that are to be
    packed, and a second deployment of the same files."""

    deployment: Deployment
    source_format: Format
    dropped: list[str] = field(default_factory=list)
    packs: bool = False
    second: Deployment | None = None


def find_choices(args: argparse.Namespace, *, with_others: bool) -> list[Choice]:
    """Deployments for the options: one, or with ``--host auto`` the native one and, ``with_others``, then those of the
    C++ and the Python host if they take the model.

    Raises UsageError or ModelError if the options give no valid deployment.
    """
    model, config = from_args(ModelOptions, args), from_args(ConfigOptions, args).with_last_values()
    tensorrt, queue = from_args(TensorRTOptions, args), from_args(QueueOptions, args).policy
    largest = 0 if config.batching is Batching.DISABLED else config.max_batch_size
    preferred = config.preferred_batch_sizes if config.batching is Batching.DYNAMIC else []
    warmup = from_args(WarmupOptions, args)
    model_format = model.find_format()
    own = _find_spec(model, model_format)
    spec = _packed(own, model_format) if config.packed_inputs else own
    _tell_unused(config, tensorrt, model_format)

    def choice(host: Host, config: ConfigOptions, dropped: Sequence[str] = ()) -> Choice:
        config, served = _for_cpp(config, model, model_format) if host is Host.CPP else (config, model_format)
        deployment = _deployment(model, served, spec, config, tensorrt, host)
        sizes = warmup.sizes(host, largest, preferred)
        deployment = dataclasses.replace(deployment, queue=queue, warmup_batch_sizes=sizes)
        second = None
        if config.separate_inputs_name is not None:
            if spec == own or host is not Host.CPP:
                raise UsageError(
                    "--separate-inputs-name needs --packed-inputs and --host cpp: add them, or leave it out"
                )
            name, packed = config.separate_inputs_name, spec.inputs
            second = dataclasses.replace(deployment, name=name, spec=own, packed_inputs=packed)
        return Choice(deployment, model_format, list(dropped), packs=spec != own, second=second)

    if config.host is not HostChoice.AUTO:
        return [choice(Host(config.host.value), config)]
    choices = [choice(Host.NATIVE, *_for_native(config))]
    if not with_others:
        return choices
    with contextlib.suppress(UsageError):  # the C++ host can't run this model like this
        choices.append(choice(Host.CPP, *_for_own(config, (*CPP_PARAMETERS, _ENGINE))))
    if model_format in (GPU_HOSTED if DeviceKind.GPU in dict(config.engine_count_per_device) else HOSTED):
        choices.append(choice(Host.PYTHON, *_for_own(config, PYTHON_PARAMETERS)))
    return choices


def _packed(spec: ModelSpec, model_format: Format) -> ModelSpec:
    """Signature with packed inputs. Raises UsageError if they can't be packed."""
    if model_format not in PACKERS:
        raise UsageError(
            f"--packed-inputs: only {', '.join(PACKERS)} can be changed, not {model_format}: leave the option out"
        )
    return packed_spec(spec)


_ENGINE = "engine"  # of an ONNX file on the C++ host: ONNX Runtime, or another format's library


def _for_cpp(config: ConfigOptions, model: ModelOptions, model_format: Format) -> tuple[ConfigOptions, Format]:
    """Options for the C++ host, with the model's arithmetic unless they name one, and the format that it gets."""
    told = dict(config.triton_backend_parameters)
    engine = told.pop(_ENGINE, None)
    if engine is not None and (model_format, engine) != (Format.ONNX, Format.OPENVINO):
        raise UsageError(
            f"{_ENGINE}={engine}: the only other engine of a format is {Format.OPENVINO} for {Format.ONNX}"
        )
    if INFERENCE_PRECISION not in told and engine is None and model_format in CPP_PRECISIONS:
        told[INFERENCE_PRECISION] = cpp_precision(model_format, stored_precision(model_format, model.model_path))
    fitting = dataclasses.replace(config, triton_backend_parameters=list(told.items()))
    return fitting, Format(engine) if engine is not None else model_format


def _for_native(config: ConfigOptions) -> tuple[ConfigOptions, list[str]]:
    """Options for the native backend, and the dropped ones: engines on the CPU only have no accelerator."""
    on_cpu = {device for device, _ in config.engine_count_per_device} == {DeviceKind.CPU}
    if config.backend_accelerator is Accelerator.NONE or not on_cpu:
        return config, []
    fitting = dataclasses.replace(config, backend_accelerator=Accelerator.NONE)
    return fitting, [f"--backend-accelerator {config.backend_accelerator}"]


def _for_own(config: ConfigOptions, parameters: Sequence[str]) -> tuple[ConfigOptions, list[str]]:
    """Options for a host of this project, which takes these parameters, and the dropped ones, which apply only to a
    native backend."""
    dropped = []
    if config.backend_accelerator is not Accelerator.NONE:
        dropped.append(f"--backend-accelerator {config.backend_accelerator}")
    if config.tensorrt_capture_cuda_graph:
        dropped.append("--tensorrt-capture-cuda-graph")
    kept = [(key, value) for key, value in config.triton_backend_parameters if key in parameters]
    lost = [f"{key}={value}" for key, value in config.triton_backend_parameters if key not in parameters]
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
        format=model_format,
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
    return told.described_by(stored)


MADE = "hosted"  # folder in the workspace


@dataclass(frozen=True)
class Sources:
    """The model ``given``, and converted models in ``workspace``."""

    given: Path
    workspace: Path

    def model_for(self, choice: Choice) -> Path:
        """Path of the model that a deployment serves, converted and packed if necessary. Raises the errors of the
        converters."""
        source, wanted = choice.source_format, choice.deployment.format
        steps = []
        if source is not wanted:
            steps.append(ConversionStep(str(wanted), source, wanted, {"precision": Precision.FP32}))
        if choice.packs:
            steps.append(ConversionStep(f"{wanted}-packed", wanted, wanted, packs=True))
        if not steps:
            return self.given
        folder = self.workspace / MADE
        folder.mkdir(parents=True, exist_ok=True)
        made = Made(self.given, source, fingerprint_of(self.given), reused=True)
        return Conversions(made, folder, Ledger(folder / "state.yaml"), {}, []).make(steps).path
