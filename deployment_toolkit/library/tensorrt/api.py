"""Import of the TensorRT package, if it is installed.

Written for TensorRT 10 (Python API of 10.13; version 11 removed the precision flags). No package index has it for
machines without a GPU.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

import numpy as np

from deployment_toolkit.errors import ModelError, UsageError

logger = logging.getLogger("tensorrt")

PACKAGE = "tensorrt-cu12>=10.0,<11"
DEFAULT_WORKSPACE_BYTES = 4 * 1024**3
_MAJOR = "10"


def require_workspace(size_bytes: int) -> None:
    """Raises UsageError if TensorRT would have no GPU memory to work in."""
    if size_bytes < 1:
        raise UsageError(f"TensorRT workspace of {size_bytes} bytes: use 1 or more")


def import_tensorrt() -> Any:
    """Module ``tensorrt``. Raises ModelError, which names the package to install, if it is missing, can't be loaded or
    has another major version."""
    install = f"install it on a machine with a GPU's driver: pip install '{PACKAGE}'"
    try:
        trt = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise ModelError(f"TensorRT is needed and can't be imported ({error}): {install}") from error
    version = getattr(trt, "__version__", "unknown")
    if version.partition(".")[0] != _MAJOR:
        raise ModelError(f"TensorRT {version} is installed, this needs {_MAJOR}.x: {install}")
    return trt


def make_logger(trt: Any) -> Any:
    """A ``tensorrt.ILogger`` that writes to Python's logging and keeps error messages in ``errors``."""
    levels = {
        trt.ILogger.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.ERROR: logging.ERROR,
        trt.ILogger.WARNING: logging.WARNING,
        trt.ILogger.INFO: logging.INFO,
        trt.ILogger.VERBOSE: logging.DEBUG,
    }

    class PythonLogger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            level = levels.get(severity, logging.ERROR)
            if level >= logging.ERROR:
                self.errors.append(msg)
            logger.log(level, "%s", msg)

    return PythonLogger()


def numpy_dtype(trt: Any, name: str, dtype: Any) -> str:
    """Numpy name of a tensor's data type. Raises ModelError for a type that numpy lacks (bfloat16, float8, …)."""
    try:
        return str(np.dtype(trt.nptype(dtype)).name)
    except TypeError as error:
        raise ModelError(f"tensor {name} is of type {dtype}, which no Triton request can carry here") from error
