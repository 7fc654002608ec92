"""Names under which the original's modules import each other: ``triton.deployment_toolkit.core`` and so on.

``triton`` is the name of the original's folder. It may be the name of this checkout, of the original's own folder on
``PYTHONPATH``, or of a package for another purpose, or there may be none.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from deployment_toolkit.checkout import ROOT

PACKAGE = "triton"
# Packages of the original's training, in the folder above, which its modules import too.
TRAINING_PACKAGES = ("trainer", "data")
_TOOLKIT = "deployment_toolkit"
OFFERED = (PACKAGE, _TOOLKIT, "tf_dataloader")


def offer_original_names() -> None:
    """From now on ``import triton.<name>`` finds the module ``<name>`` of this checkout, unless another ``triton`` has
    it. A module of ``deployment_toolkit`` is the same object under both names, and so are its errors."""
    if not any(isinstance(finder, _OriginalNames) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OriginalNames())


class _OriginalNames:
    """A finder of Python's import system."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where the module is; None for a name that does not begin with ``triton``, or that is nowhere."""
        package, *names = fullname.split(".")
        if package != PACKAGE:
            return None
        found = PathFinder.find_spec(fullname, path, target)
        if not names:
            return found or _this_checkout()
        own = PathFinder.find_spec(fullname, [str(ROOT.joinpath(*names[:-1]))], target)
        if own is None or own.origin is None or (found is not None and not _is_same_file(found, own)):
            return found
        return ModuleSpec(fullname, _SameModule(".".join(names)), origin=own.origin) if names[0] == _TOOLKIT else own


def _this_checkout() -> ModuleSpec:
    spec = ModuleSpec(PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(ROOT)]
    return spec


def _is_same_file(one: ModuleSpec, other: ModuleSpec) -> bool:
    return (
        None not in (one.origin, other.origin) and Path(str(one.origin)).resolve() == Path(str(other.origin)).resolve()
    )


class _SameModule(Loader):
    """Gives the module that has another name already."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._own_spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._name)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Runs nothing. The import system has put the new name into the module's ``__spec__``."""
        module.__spec__ = self._own_spec
