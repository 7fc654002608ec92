"""Import of NVTabular, without the deep-learning frameworks that merlin-core would import with it."""

from __future__ import annotations

import importlib
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from deployment_toolkit.cluster import set_dask_options

_FRAMEWORKS = ("tensorflow", "torch")
_importing = threading.RLock()


def import_nvtabular() -> ModuleType:
    """Imports NVTabular and returns it. Call it before any module that imports NVTabular, merlin-core or dask.

    merlin-core imports TensorFlow and PyTorch for their names of dtypes, which takes longer than all the rest; where
    they can't be imported it goes without, so they are hidden from it. In the meantime no other thread can import them.
    """
    with _importing:  # a worker of several threads may need it twice at once
        if "nvtabular" in sys.modules:
            return sys.modules["nvtabular"]
        with warnings.catch_warnings(), _hidden(_FRAMEWORKS):
            warnings.simplefilter("ignore")  # each part that is not there warns: PyTorch, dask's newer data frames
            # merlin-core is built on dask's older data frames, the newer ones are the default where they are installed
            set_dask_options({"dataframe.query-planning": False})
            return importlib.import_module("nvtabular")


@contextmanager
def _hidden(names: tuple[str, ...]) -> Iterator[None]:
    """An import of these modules fails meanwhile, as if they weren't installed. Those that are there already stay."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is Python's mark for this
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
