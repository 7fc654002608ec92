"""Conversion of a deployment to the text of Triton's ``config.pbtxt``, and back.

The format is Triton's protobuf (``model_config.proto``). The text is complete, so that a server does not complete it:
inputs and outputs, version, instances, scheduler, and ``max_batch_size`` even if it is 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2 as pb

from deployment_toolkit.core import Accelerator, Batching, DeviceKind, Format, Host, ModelSpec, TensorSpec
from deployment_toolkit.cpp_host.library import BACKEND
from deployment_toolkit.deploying.deployment import CPP_PRECISIONS, DTYPES, Deployment
from deployment_toolkit.deploying.queue_policy import QueuePolicy
from deployment_toolkit.deploying.warmup import write_warmup
from deployment_toolkit.errors import ModelError
from deployment_toolkit.files.texts import read_text
from deployment_toolkit.triton_server.config_keys import (
    INFERENCE_PRECISION,
    MODEL_FILE,
    MODEL_FORMAT,
    MODEL_SPEC,
    PACKED_INPUTS,
)

HOST_FILE = "model.py"
_MOST_TOLD = 300  # characters: an error repeats the line, which may hold a whole signature
_HOST_SOURCE = '''"""Run by Triton's Python backend."""

from {module} import TritonPythonModel as TritonPythonModel
'''

_KINDS = {DeviceKind.CPU: pb.ModelInstanceGroup.KIND_CPU, DeviceKind.GPU: pb.ModelInstanceGroup.KIND_GPU}


def config_text(deployment: Deployment) -> str:
    """Text of a deployment's ``config.pbtxt``."""
    config = pb.ModelConfig(name=deployment.name)
    config.version_policy.specific.versions.append(deployment.version)
    batched = deployment.batching is not Batching.DISABLED
    config.max_batch_size = deployment.max_batch_size if batched else 0
    set_signature(config, deployment.spec, batched)
    if deployment.batching is Batching.DYNAMIC:
        # Without a preferred size, the server prefers the largest batch; the file names it.
        sizes = sorted(set(deployment.preferred_batch_sizes)) or [deployment.max_batch_size]
        config.dynamic_batching.preferred_batch_size.extend(sizes)
        config.dynamic_batching.max_queue_delay_microseconds = deployment.max_queue_delay_us
        deployment.queue.write(config.dynamic_batching)
    write_warmup(config, deployment.spec, DTYPES, deployment.warmup_batch_sizes)
    for device, count in deployment.engine_count_per_device.items():
        config.instance_group.add(count=count, kind=_KINDS[device])
    if not deployment.engine_count_per_device:
        cpu = deployment.host is not Host.NATIVE or deployment.format is Format.OPENVINO
        kinds = pb.ModelInstanceGroup
        config.instance_group.add(count=1, kind=kinds.KIND_CPU if cpu else kinds.KIND_AUTO)
    if deployment.host is Host.PYTHON:
        _set_python_backend(config, deployment)
    elif deployment.host is Host.CPP:
        _set_cpp_backend(config, deployment)
    else:
        _set_native_backend(config, deployment)
    for key, value in deployment.backend_parameters.items():
        config.parameters[key].string_value = value
    return complete_text(config)


def host_source(module: str = "deployment_toolkit.python_host") -> str:
    """The text of a ``model.py`` that has Triton's Python backend run the class of a module."""
    return _HOST_SOURCE.format(module=module)


def set_signature(config: Any, spec: ModelSpec, batched: bool) -> None:
    """Writes inputs, outputs and value ranges into a ``ModelConfig`` message."""
    for field, tensors in ((config.input, spec.inputs), (config.output, spec.outputs)):
        for tensor in tensors:
            field.add(name=tensor.name, data_type=DTYPES[tensor.dtype], dims=_dims(tensor, batched))
    config.parameters[MODEL_SPEC].string_value = json.dumps(spec.to_dict(), separators=(",", ":"))


def complete_text(config: Any) -> str:
    """Text of a ``ModelConfig`` message, with the zeros that protobuf leaves out."""
    return _with_zeros(text_format.MessageToString(config), config)


def read_config(path: Path) -> Any:
    """The ``ModelConfig`` message of a ``config.pbtxt``. Raises DataError or ModelError, with the line, if there is
    none."""
    return parse_config(read_text(path), str(path))


def parse_config(text: str, where: str = "config.pbtxt") -> Any:
    """Parses a ``config.pbtxt`` to a ``ModelConfig`` message. Raises ModelError, with line and field, if it can't."""
    try:
        return text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        told = " ".join(str(error).split())
        raise ModelError(
            f"{where} is not a model configuration: {told[:_MOST_TOLD]}: deploy the model again"
        ) from error
    except (RecursionError, UnicodeError) as error:
        raise ModelError(
            f"{where} is not a model configuration ({type(error).__name__}): deploy the model again"
        ) from error


def differences(asked: Any, served: Mapping[str, Any]) -> list[str]:
    """Differences between the configuration that a server runs and the file: a phrase per field, empty if none.

    ``asked`` is the message of the file, ``served`` the JSON of the server's ``/config``. Additions of the server
    (names and devices of instances, defaults of options that the file does not set) are no differences.
    """
    answer = json_format.ParseDict(dict(served), pb.ModelConfig(), ignore_unknown_fields=True)
    wanted, running = _comparable(asked), _comparable(answer)
    if any(kind == pb.ModelInstanceGroup.KIND_AUTO for _, kind in wanted["instances"]):
        running["instances"] = wanted["instances"]  # KIND_AUTO lets the server choose
    return [
        f"{field}: {running[field]!r} instead of {wanted[field]!r}"
        for field in wanted
        if running[field] != wanted[field]
    ]


def _comparable(config: Any) -> dict[str, Any]:
    dynamic = config.dynamic_batching
    return {
        "name": config.name,
        "backend": (config.backend or "tensorrt", config.default_model_filename),
        "versions": list(config.version_policy.specific.versions),
        "max_batch_size": config.max_batch_size,
        "scheduler": config.WhichOneof("scheduling_choice") or "none",
        "dynamic_batching": (sorted(dynamic.preferred_batch_size), dynamic.max_queue_delay_microseconds),
        "queue": str(QueuePolicy.read(dynamic)),
        "warmup": [json_format.MessageToDict(warmup) for warmup in config.model_warmup],
        "inputs": {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in config.input},
        "outputs": {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in config.output},
        "instances": sorted((group.count, group.kind) for group in config.instance_group),
        "cuda_graphs": config.optimization.cuda.graphs,
        "accelerators": [
            (accelerator.name, dict(accelerator.parameters))
            for accelerator in config.optimization.execution_accelerators.gpu_execution_accelerator
        ],
        "ensemble": json_format.MessageToDict(config.ensemble_scheduling),
        "parameters": {key: value.string_value for key, value in config.parameters.items()},
    }


def _dims(tensor: TensorSpec, batched: bool) -> tuple[int, ...]:
    """Dimensions of a tensor in the configuration: a batching server adds the batch dimension, else it is the first."""
    return tensor.shape if batched else (-1, *tensor.shape)


def _set_python_backend(config: Any, deployment: Deployment) -> None:
    config.backend = "python"
    config.default_model_filename = HOST_FILE
    config.parameters[MODEL_FORMAT].string_value = str(deployment.format)
    config.parameters[MODEL_FILE].string_value = deployment.model_file


def _set_cpp_backend(config: Any, deployment: Deployment) -> None:
    config.backend = BACKEND
    config.default_model_filename = deployment.model_file
    config.parameters[MODEL_FORMAT].string_value = str(deployment.format)
    config.parameters[MODEL_FILE].string_value = deployment.model_file
    if deployment.packed_inputs:
        inputs = [tensor.to_dict() for tensor in deployment.packed_inputs]
        config.parameters[PACKED_INPUTS].string_value = json.dumps(inputs, separators=(",", ":"))
    config.parameters[INFERENCE_PRECISION].string_value = CPP_PRECISIONS[deployment.format][0]


def _set_native_backend(config: Any, deployment: Deployment) -> None:
    """Sets the native backend of the deployment's format.

    Source of the names: Triton's user guide, chapters model configuration and optimization, and the READMEs of
    tensorflow_backend, onnxruntime_backend and openvino_backend.
    """
    config.default_model_filename = deployment.model_file
    if deployment.format is Format.TRT:
        config.platform = "tensorrt_plan"
        if deployment.tensorrt_capture_cuda_graph:
            config.optimization.cuda.graphs = True
    elif deployment.format is Format.ONNX:
        config.backend = "onnxruntime"
    elif deployment.format is Format.OPENVINO:
        config.backend = "openvino"
    else:
        config.backend = "tensorflow"
        config.platform = "tensorflow_savedmodel"
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    if deployment.backend_accelerator is Accelerator.AMP:
        accelerators.add(name="auto_mixed_precision")
    elif deployment.backend_accelerator is Accelerator.TRT:
        accelerator = accelerators.add(name="tensorrt")
        accelerator.parameters["precision_mode"] = deployment.precision.value.upper()
        accelerator.parameters["max_workspace_size_bytes"] = str(deployment.tensorrt_max_workspace_size_bytes)


def _with_zeros(text: str, config: Any) -> str:
    """Adds zeros that protobuf's text leaves out, for fields in which zero and absent have different meanings."""
    if config.max_batch_size == 0:
        text = text.replace("input {", "max_batch_size: 0\ninput {", 1)
    if config.HasField("dynamic_batching") and config.dynamic_batching.max_queue_delay_microseconds == 0:
        text = text.replace("dynamic_batching {", "dynamic_batching {\n  max_queue_delay_microseconds: 0", 1)
    if config.instance_group and config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_AUTO:
        text = text.replace("instance_group {", "instance_group {\n  kind: KIND_AUTO", 1)
    return text
