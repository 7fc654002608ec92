"""``model-navigator triton-config-model``: a model in a server's repository with a complete configuration, and loaded
if asked."""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deployment_toolkit.core import Accelerator, Batching, DeviceKind, Format, Host, LoadMethod, ModelSpec, Precision
from deployment_toolkit.errors import DeploymentError, UsageError
from deployment_toolkit.files import remove, write_text
from deployment_toolkit.library.base import stored_spec
from deployment_toolkit.params import Plugin, add_dataclass, from_args, option
from deployment_toolkit.registry import INSTEAD, LOADERS, loader
from deployment_toolkit.triton_server.deployment import MODEL_FILES, Deployment
from deployment_toolkit.triton_server.loading import load_and_check
from deployment_toolkit.triton_server.model_repository import add_model
from navigator.options import ModelOptions, TensorRTOptions, WorkspaceOptions
from navigator.values import key_value

logger = logging.getLogger("model-navigator")

PLUGINS: tuple[Plugin, ...] = ()
NOTES: dict[str, str] = {}
RESULTS_FILE = "triton_config_model_results.yaml"
_PRECISIONS = (Precision.INT8, Precision.FP16, Precision.FP32)


@dataclass(frozen=True)
class ServerOptions:
    """Where the model goes and who loads it."""

    model_repository: Path = option("the server's model repository")
    load_model: bool = option("have the server load the model, and ask it for one row", False)
    load_model_timeout_s: float = option("how long loading may take, in seconds", 100.0)
    model_control_mode: LoadMethod = option(
        "explicit: the server is told to load; poll: it looks into its repository", LoadMethod.EXPLICIT
    )
    server_url: str = option("the server, as grpc://host:port or http://host:port", "grpc://localhost:8001")


@dataclass(frozen=True)
class ConfigOptions:
    """How the server runs the model."""

    host: Host = option(
        "native: the server's own backend for the format; python: the framework in the Python backend, for servers "
        "without such a backend",
        Host.NATIVE,
    )
    batching: Batching = option(
        "disabled: the model sees requests as they are; static: as batches, one by one; dynamic: the server joins them",
        Batching.STATIC,
    )
    max_batch_size: int = option("largest batch", 1)
    preferred_batch_sizes: list[int] = option("sizes that dynamic batching aims at", [], nargs="+")
    max_queue_delay_us: int = option("how long dynamic batching may hold a request back, in microseconds", 0)
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
        "parameters of the backend; the Python host takes threads=N, the threads of an instance",
        [],
        type=key_value(),
        nargs="+",
        metavar="KEY=VALUE",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that are this command's own."""
    add_dataclass(parser, ServerOptions)
    add_dataclass(parser, ConfigOptions)


def run(args: argparse.Namespace) -> int:
    """Writes the model into the repository, loads it if asked, and records the outcome in the workspace."""
    workspace, target = from_args(WorkspaceOptions, args), from_args(ServerOptions, args)
    results_path = workspace.workspace_path / RESULTS_FILE
    if workspace.override_workspace:
        remove(results_path)
    started = time.monotonic()
    result: dict[str, Any] = {"model_name": args.model_name, "model_version": args.model_version}
    try:
        deployment = find_deployment(args)
        folder = add_model(target.model_repository, deployment, args.model_path)
        result |= {"model_path": str(folder), "host": str(deployment.host), "format": str(deployment.format)}
        logger.info("model %s is in %s", deployment.name, folder)
        if target.load_model:
            load_and_check(
                target.server_url,
                deployment,
                method=target.model_control_mode,
                timeout_s=target.load_model_timeout_s,
            )
    except DeploymentError as error:
        _record(results_path, result, "failed", " ".join(str(error).split()), started)
        raise
    _record(results_path, result, "succeeded", "loaded and answering" if target.load_model else "configured", started)
    return 0


def find_deployment(args: argparse.Namespace) -> Deployment:
    """The deployment that the options describe. Raises UsageError or ModelError where they make none."""
    model, config = from_args(ModelOptions, args), from_args(ConfigOptions, args)
    model_format = model.find_format()
    if config.tensorrt_capture_cuda_graph and model_format is not Format.TRT:
        logger.info("CUDA graphs are captured of TensorRT plans only: not asked for with %s", model_format)
    if config.batching is not Batching.DYNAMIC and (config.preferred_batch_sizes or config.max_queue_delay_us):
        logger.info("preferred batch sizes and queue delay are for dynamic batching: left out")
    return Deployment(
        name=model.model_name,
        spec=_find_spec(model, model_format),
        format=model_format,
        version=model.model_version,
        host=config.host,
        batching=config.batching,
        max_batch_size=config.max_batch_size,
        preferred_batch_sizes=tuple(config.preferred_batch_sizes),
        max_queue_delay_us=config.max_queue_delay_us,
        engine_count_per_device=dict(config.engine_count_per_device),
        backend_accelerator=config.backend_accelerator,
        precision=config.tensorrt_precision,
        tensorrt_capture_cuda_graph=config.tensorrt_capture_cuda_graph,
        tensorrt_max_workspace_size_bytes=from_args(TensorRTOptions, args).tensorrt_max_workspace_size,
        backend_parameters=dict(config.triton_backend_parameters),
    )


def _find_spec(model: ModelOptions, model_format: Format) -> ModelSpec:
    """From the options, else from the file that the export left in a SavedModel, else from the model by its runtime."""
    if model_format not in MODEL_FILES:
        raise UsageError(f"no server here runs {model_format}: {INSTEAD.get(model_format, 'use tf-savedmodel')}")
    if bool(model.inputs) != bool(model.outputs):
        raise UsageError("give both --inputs and --outputs, or neither")
    stored = stored_spec(model.model_path)
    if model.inputs:
        given = ModelSpec(*(tuple(tensor.spec for tensor in tensors) for tensors in (model.inputs, model.outputs)))
        return given if stored is None else given.with_value_ranges(stored.value_ranges)
    if stored is not None:
        return stored
    if model_format not in LOADERS:
        raise UsageError(f"a {model_format} model does not tell its signature: give --inputs and --outputs")
    spec: ModelSpec = loader(model_format)().read_spec(model.model_path)
    return spec


def _record(path: Path, result: dict[str, Any], state: str, message: str, started: float) -> None:
    seconds = round(time.monotonic() - started, 2)
    status = {"state": state, "message": message, "seconds": seconds}
    write_text(path, yaml.safe_dump([{**result, "status": status}], sort_keys=False))
