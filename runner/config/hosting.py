"""Hosts of an experiment's model inside the server, and the settings that each takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from deployment_toolkit.core import REDUCED_PRECISIONS, Batching, DeviceKind, Format, Host, ModelSpec, Precision
from deployment_toolkit.cpp_host.library import can_build
from deployment_toolkit.deploying.deployment import CPP_PRECISIONS, Deployment
from deployment_toolkit.deploying.queue_policy import NO_DELAY
from deployment_toolkit.errors import UsageError
from deployment_toolkit.hardware import missing_instructions
from deployment_toolkit.library.registry import PACKERS
from deployment_toolkit.triton_server.config_keys import THREADS
from runner.config.experiment import AUTO_HOST, Parameters, TritonLaunchMode


def host_of(mode: TritonLaunchMode, parameters: Parameters) -> str:
    """Value of ``--host``: the experiment's own, else by the launch mode. The embedded server has this project's hosts,
    that in C++ if it can be compiled; NVIDIA's has the formats' own, other images may have either."""
    if parameters.host is not None:
        return parameters.host
    if mode is TritonLaunchMode.EMBEDDED:
        in_cpp = parameters.format in CPP_PRECISIONS and parameters.device_kind is DeviceKind.CPU
        return Host.CPP if in_cpp and can_build() else Host.PYTHON
    ours = mode is TritonLaunchMode.DOCKER
    return Host.NATIVE if ours and parameters.device_kind is DeviceKind.GPU else AUTO_HOST


def takes_threads(host: str) -> bool:
    """True if the host is one of this project's, which has the parameter ``threads``."""
    return host not in (Host.NATIVE, AUTO_HOST)


def hosting_problems(mode: TritonLaunchMode, parameters: Parameters, batching: Batching) -> Iterator[str]:
    """Contradictions in an experiment's settings of host and batching."""
    host = host_of(mode, parameters)
    if host == Host.NATIVE and mode is TritonLaunchMode.EMBEDDED:
        yield "host native needs triton_launch_mode docker or remote: the embedded server has no backends of formats"
    if parameters.threads is not None and not takes_threads(host):
        hosts = " or ".join(item for item in Host if takes_threads(item))
        yield f"threads are told to a host of this project, not to {host}: add host: {hosts}, or leave them out"
    if parameters.packed_inputs and parameters.format not in PACKERS:
        yield f"packed_inputs: only {', '.join(PACKERS)} can be changed, not {parameters.format}: leave it out"
    if parameters.queue.is_set and parameters.max_queue_delay_us:
        yield f"max_queue_delay_us {parameters.max_queue_delay_us}: {NO_DELAY}"
    if batching is not Batching.DYNAMIC:
        for key in ("preferred_batch_sizes", "max_queue_delay_us"):
            if getattr(parameters, key):
                yield f"{key} is for batching dynamic, not {batching}: leave one of them out"
        if parameters.queue.is_set:
            yield f"a queue with limits or priorities is for batching dynamic, not {batching}: leave one of them out"
        if batching is Batching.DISABLED and max(parameters.warmup_batch_sizes or [1]) > 1:
            yield "warmup_batch_sizes above 1 are for a server that batches, not for batching disabled: leave them out"
    if parameters.host is not None and takes_threads(host):
        yield from _refusal(Host(host), parameters, batching)


def _refusal(host: Host, parameters: Parameters, batching: Batching) -> Iterator[str]:
    """Reasons to refuse a deployment with these settings."""
    try:
        Deployment(
            name="model",
            spec=ModelSpec((), ()),
            format=parameters.format,
            host=host,
            batching=batching,
            max_batch_size=parameters.max_batch_size,
            engine_count_per_device={parameters.device_kind: parameters.number_of_model_instances},
            backend_accelerator=parameters.backend_accelerator,
            backend_parameters={} if parameters.threads is None else {THREADS: str(parameters.threads)},
        )
    except UsageError as error:
        yield f"host {host}: {str(error).partition(': ')[2]}"


def is_reduced(parameters: Parameters) -> bool:
    """True if only metrics judge the answers, since rows can't agree to the last digits."""
    if parameters.format is Format.ONNX:
        return parameters.precision is Precision.INT8
    return parameters.format is Format.OPENVINO and parameters.precision in REDUCED_PRECISIONS


def missing_here(parameters: Parameters) -> str:
    """Reason why an experiment can't be run on this host; empty if it can."""
    return missing_instructions(parameters.precision) if parameters.format is Format.OPENVINO else ""


def fitted_here(parameters: Parameters) -> Parameters:
    """The parameters with which an experiment runs on this host: int8 is onnxruntime's where the CPU has no dot
    products for OpenVINO's. onnxruntime has kernels for AVX2, and its int8 can't overflow there."""
    if parameters.precision is not Precision.INT8 or not missing_here(parameters):
        return parameters
    return dataclasses.replace(parameters, format=Format.ONNX)
