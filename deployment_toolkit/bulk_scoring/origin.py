"""What decides the scores, as a plan keeps it: data, model, options and the versions of the engines."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any

from deployment_toolkit.core import ModelSpec
from deployment_toolkit.errors import DataError, ModelError
from deployment_toolkit.files import fingerprint
from deployment_toolkit.library.model_files import fingerprint_of
from deployment_toolkit.packages import installed_versions

_ENGINES = (
    *("tensorflow", "tensorflow-cpu", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt"),
    *("numpy", "pyarrow"),
)
# Options that change where and how fast rows are scored, not what comes out.
_WITHOUT_EFFECT = (
    *("output_dir", "force", "verbose", "max_bad_rows", "threads", "n_workers", "scheduler_address", "scheduler_file"),
    *("server_url", "max_unresponded_requests", "response_wait_time", "server_patience", "header_file", "header_env"),
    *("ca_certificate", "client_certificate", "client_key", "ignore_unknown_parameters"),
)
_FOOTER_END = 8  # bytes: the footer's size and the letters PAR1
_DIGITS = 16


def engine_versions() -> dict[str, str]:
    """Versions of the installed packages that compute scores."""
    return installed_versions(_ENGINES)


def stored_model(path: Path) -> dict[str, Any]:
    """A model that an engine loads. Raises ModelError if it or a part of it is missing."""
    if not path.exists():
        raise ModelError(f"there is no model at {path}: check --input-path")
    return {"fingerprint": fingerprint_of(path)}


def served_model(spec: ModelSpec) -> dict[str, Any]:
    """A model on servers, of which only the signature can be known."""
    digest = hashlib.sha256(repr(spec.to_dict()).encode()).hexdigest()
    return {"signature": digest[:_DIGITS]}


def data_files(paths: Iterable[Path]) -> list[list[Any]]:
    """Name, fingerprint and time of change of each file."""
    return [[str(path), file_fingerprint(path), path.stat().st_mtime_ns] for path in paths]


def file_fingerprint(path: Path) -> str:
    """Size of a data file, and first digits of the digest of its end, where a parquet file tells of the place, the
    size and the bounds of all it holds. Raises DataError if it can't be read."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _FOOTER_END))
            footer = int.from_bytes(file.read(4), "little")
            start = size - _FOOTER_END - footer
            file.seek(start if start > 0 else max(0, size - (1 << 16)))
            return f"{size} {hashlib.file_digest(file, 'sha256').hexdigest()[:_DIGITS]}"
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}; make or copy it again") from error


def option_files(values: dict[str, Any]) -> dict[str, str]:
    """Fingerprints of the files and folders that options name, by option: the dataloader, a feature specification, a
    checkpoint. The model itself is told apart."""
    named = {name: value for name, value in values.items() if isinstance(value, Path) and name not in _WITHOUT_EFFECT}
    return {name: fingerprint.of_path(path) for name, path in named.items() if name != "input_path" and path.exists()}


def scoring_origin(
    values: dict[str, Any], model: dict[str, Any], files: Iterable[Path], described: str
) -> dict[str, Any]:
    """What decides the scores of a command with these values."""
    options = {name: _plain(value) for name, value in sorted(values.items()) if name not in _WITHOUT_EFFECT}
    return {
        "data": [described, data_files(files)],
        "model": model,
        "options": options,
        "files of options": option_files(values),
        "versions": engine_versions(),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return str(value.value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)
