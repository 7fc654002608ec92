"""Keys that Model Navigator 0.2.5 has in the two results files, which stand beside this project's own."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from deployment_toolkit.core import Format, ModelSpec, TensorSpec
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.options.located_yaml import Located, load_yaml
from deployment_toolkit.options.mapping import to_plain
from navigator.attempts import Attempt
from navigator.values import GivenTensor, Named

_QUEUE = (
    *("latency_budget_ms", "max_queue_size", "queue_timeout_us", "queue_timeout_action"),
    *("priority_levels", "default_priority_level"),
)


def attempt_keys(args: argparse.Namespace, source: Format, attempt: Attempt) -> dict[str, Any]:
    """What an attempt of ``convert`` was to do: its source, conversion, comparison and shapes."""
    options = {key: value for step in attempt.steps for key, value in step.options.items()}
    precisions = [options[key] for key in ("precision",) if key in options] or list(options.get("precisions", ()))
    return to_plain(  # type: ignore[no-any-return]
        {
            "source_model_config": _model(args, source),
            "conversion_config": {
                "target_format": attempt.format,
                "onnx_opset": options.get("opset"),
                "tensorrt_precision": precisions[0] if precisions else None,
                "tensorrt_precision_mode": args.tensorrt_precisions_mode,
                "tensorrt_explicit_precision": args.tensorrt_explicit_precision,
                "tensorrt_strict_types": args.tensorrt_strict_types,
                "tensorrt_sparse_weights": args.tensorrt_sparse_weights,
            },
            "model_signature_config": {"inputs": _tensors(args.inputs), "outputs": _tensors(args.outputs)},
            "comparator_config": {
                "atol": _by_name(args.atol),
                "rtol": _by_name(args.rtol),
                "max_batch_size": args.max_batch_size,
            },
            "dataset_profile": {
                name: _by_name(getattr(args, name))
                for name in ("min_shapes", "opt_shapes", "max_shapes", "value_ranges", "dtypes")
            },
            "framework_docker_image": None,
        }
    )


def output_model(name: str, path: Path, model_format: Format, spec: ModelSpec) -> dict[str, Any]:
    """A converted model."""
    signature = {"inputs": _signature(spec.inputs), "outputs": _signature(spec.outputs)}
    return {"name": name, "path": str(path), "format": str(model_format), "signature": signature, "properties": None}


def note_image(path: Path, image: str) -> None:
    """Writes into the results of a conversion in a container which image it ran in."""
    attempts = load_yaml(path, empty_keys=True).items("the results of a conversion")  # the key "" is for all tensors
    entries = [{**_plain(attempt), "framework_docker_image": image} for attempt in attempts]
    write_text(path, yaml.safe_dump(entries, sort_keys=False, width=120))


def _plain(attempt: Located) -> dict[str, Any]:
    return {key: entry.plain for key, entry in attempt.entries("a result").items()}


def deployment_keys(args: argparse.Namespace) -> dict[str, Any]:
    """What ``triton-config-model`` was to tell the server. ``scheduler_config`` is the older name of the two parts
    about batching."""
    batching = {"max_batch_size": args.max_batch_size, "batching": args.batching}
    dynamic = {
        "preferred_batch_sizes": args.preferred_batch_sizes or None,
        "max_queue_delay_us": args.max_queue_delay_us,
    }
    return to_plain(  # type: ignore[no-any-return]
        {
            "model_config": _model(args, args.model_format),
            "optimization_config": {
                "backend_accelerator": args.backend_accelerator,
                "tensorrt_precision": args.tensorrt_precision,
                "tensorrt_capture_cuda_graph": args.tensorrt_capture_cuda_graph,
            },
            "tensorrt_common_config": {"tensorrt_max_workspace_size": args.tensorrt_max_workspace_size},
            "batching_config": batching,
            "dynamic_batching_config": dynamic,
            "scheduler_config": {"max_batch_size": args.max_batch_size, **dynamic},
            "queue_config": {name: getattr(args, name) for name in _QUEUE},
            "warmup_config": {"warmup_batch_sizes": args.warmup_batch_sizes or None},
            "instances_config": {"engine_count_per_device": dict(args.engine_count_per_device)},
            "backend_parameters_config": {"triton_backend_parameters": dict(args.triton_backend_parameters)},
            "model_dir_in_model_store": None,
        }
    )


def _model(args: argparse.Namespace, model_format: Format | None) -> dict[str, Any]:
    return {
        "model_name": args.model_name,
        "model_path": args.model_path,
        "model_format": model_format,
        "model_version": str(args.model_version),
    }


def _by_name(values: Iterable[Named[Any]]) -> dict[str, Any] | None:
    return {item.name: item.value for item in values} or None


def _tensors(given: Sequence[GivenTensor]) -> dict[str, Any] | None:
    return {item.spec.name: _tensor(item.name, item.spec) for item in given} or None


def _signature(tensors: Sequence[TensorSpec]) -> dict[str, Any]:
    return {tensor.name: _tensor(tensor.name, tensor) for tensor in tensors}


def _tensor(name: str, spec: TensorSpec) -> dict[str, Any]:
    return {"name": name, "shape": [-1, *spec.shape], "dtype": spec.dtype}
