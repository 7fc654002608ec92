"""Import of TensorFlow as this project needs it: ``tf.keras`` is Keras 2, and Keras is imported where it is used.

TensorFlow imports Keras at the end of its own import, for those who load models of Keras classes. That takes as long as
TensorFlow itself, and most commands use no Keras. ``tf.keras`` imports it on first use in any case.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from deployment_toolkit.process import stderr_without

_TENSORFLOW = "tensorflow"
_KERAS = ("keras.src", "tf_keras.src")  # both are found on the way to what TensorFlow imports
_LEGACY = "tf_keras"
_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# Notes of a library that is loaded before TensorFlow tells it the level.
_NOTES = "^(WARNING: All log messages before absl::InitializeLog|I[0-9]{4} )"


def prepare_tensorflow() -> None:
    """From now on ``import tensorflow``, wherever it is, imports no Keras, and sets these variables of the environment
    if they are not set:

    - ``TF_USE_LEGACY_KERAS``, so that ``tf.keras`` is Keras 2, if that is installed as ``tf_keras``. Modules of the
      original need it.
    - ``TF_CPP_MIN_LOG_LEVEL``, so that TensorFlow writes errors, and no notes about itself.
    """
    if not any(isinstance(finder, _TensorFlowFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TensorFlowFinder())


class _KerasLaterError(ImportError):
    """What TensorFlow sees in place of Keras; it goes on without."""


class _TensorFlowFinder:
    """A finder of Python's import system."""

    def __init__(self) -> None:
        self.without_keras: int | None = None  # the thread that imports TensorFlow

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """TensorFlow with the loader below; None for all else."""
        if fullname in _KERAS and self.without_keras == threading.get_ident():
            raise _KerasLaterError(f"{fullname} is imported on first use", name=fullname)
        if fullname != _TENSORFLOW:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _TensorFlowLoader(spec.loader, self)
        return spec


class _TensorFlowLoader(Loader):
    """TensorFlow's own loader, with preparations."""

    def __init__(self, own: Loader, finder: _TensorFlowFinder) -> None:
        self._own = own
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._own
        if module.__spec__ is not None:
            module.__spec__.loader = self._own
        os.environ.setdefault(_LOG_LEVEL, "2")
        if importlib.util.find_spec(_LEGACY) is not None:
            os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
        if os.environ[_LOG_LEVEL] == "0":
            self._import(module)
        else:
            with stderr_without(_NOTES):
                self._import(module)

    def _import(self, module: ModuleType) -> None:
        self._finder.without_keras = threading.get_ident()
        try:
            self._own.exec_module(module)
        except _KerasLaterError:  # a TensorFlow that can't do without
            self._finder.without_keras = None
            self._own.exec_module(module)
        finally:
            self._finder.without_keras = None
