"""Records of a workspace: the ledger of results and their origins, so that a second call reuses them; and the keys that
Model Navigator 0.2.5 has in the two results files, which stand beside this project's own."""

from __future__ import annotations

import argparse
import functools
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from deployment_toolkit import library, packing
from deployment_toolkit.core import Format, ModelSpec, TensorSpec
from deployment_toolkit.files import fingerprint
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.options.located_yaml import load_yaml
from deployment_toolkit.options.mapping import to_plain
from deployment_toolkit.packages import installed_versions
from navigator.attempts import Attempt
from navigator.values import GivenTensor, Named

logger = logging.getLogger("convert")

_TENSORFLOW = ("tensorflow", "tensorflow-cpu")
# Names of the packages that read, write and run a format.
_PACKAGES = {
    Format.TF_SAVEDMODEL: _TENSORFLOW,
    Format.TF_TRT: (*_TENSORFLOW, "tensorrt"),
    Format.ONNX: ("onnx", "onnxruntime", "onnxruntime-gpu", "tf2onnx"),
    Format.TRT: ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    Format.OPENVINO: ("openvino",),
}


class Ledger:
    """Outcomes by topic, each with its origin, in a YAML file that is written at every note.

    An origin is a mapping of plain values; it counts as unchanged only if all of them are equal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = _read(path)

    def recall(self, topic: str, origin: Mapping[str, Any]) -> Any:
        """Outcome that was noted for the same origin; None if there is none. A changed origin is logged."""
        entry = self._entries.get(topic)
        if entry is None:
            return None
        known, wanted = entry["from"], to_plain(origin)
        changed = sorted(key for key in known.keys() | wanted.keys() if known.get(key) != wanted.get(key))
        if changed:
            logger.info("%s: made before, but changed since: %s", topic, ", ".join(changed))
            return None
        return entry["outcome"]

    def note(self, topic: str, origin: Mapping[str, Any], outcome: Any) -> None:
        """Records an outcome in place of the topic's earlier one."""
        self._entries[topic] = {"from": to_plain(origin), "outcome": outcome}
        write_text(self._path, yaml.safe_dump(self._entries, sort_keys=False, width=120))

    def forget(self, topic: str) -> None:
        """Drops a topic whose result is about to be replaced."""
        if self._entries.pop(topic, None) is not None:
            write_text(self._path, yaml.safe_dump(self._entries, sort_keys=False, width=120))


def tool_versions(formats: Iterable[Format]) -> dict[str, str]:
    """Versions of the installed packages for these formats, and a digest of this project's code for them."""
    names = sorted({name for model_format in formats for name in _PACKAGES.get(model_format, ())})
    return {"deployment_toolkit.library": _own_code(), **installed_versions(names)}


@functools.cache
def _own_code() -> str:
    digest = hashlib.sha256()
    files = [file for folder in library.__path__ for file in sorted(Path(folder).rglob("*.py"))]
    for file in (*files, Path(packing.__file__)):
        digest.update(fingerprint.of_path(file).encode())
    return digest.hexdigest()[:16]


def _read(path: Path) -> dict[str, Any]:
    """Entries of a ledger's file; empty if it is missing or damaged."""
    try:
        entries = yaml.safe_load(path.read_text())
        sound = isinstance(entries, dict) and all(
            isinstance(entry, dict) and isinstance(entry.get("from"), dict) and "outcome" in entry
            for entry in entries.values()
        )
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        sound = False
    if not sound:
        logger.warning("%s can't be read: nothing is reused", path)
        return {}
    return dict(entries)


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
    entries = load_yaml(path, empty_keys=True).plain  # "" is for all tensors
    for entry in entries:
        entry["framework_docker_image"] = image
    write_text(path, yaml.safe_dump(entries, sort_keys=False, width=120))


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
