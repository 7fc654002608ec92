"""Batches of a user's dataloader, of this project's contract or the original's, in one form.

Both yield ``(ids, x, y)``. The original's may give ids as a list, no labels as None, and tensors of a framework; its
labels have the names of outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import ModelError, data_error_in


class PluginStream:
    """Batches of ``dataloader_fn``, the return value of ``get_dataloader_fn`` of the module ``where``.

    A call yields (ids [B], {input: [B, ...]}, {label: [B, ...]}), numpy arrays, from the start. A dataloader may fill
    its arrays again for the next batch: those yielded here are copies, since several batches are under way at a time.
    ``num_rows`` is the number of rows, None if the dataloader doesn't say; ``source`` is the dataloader itself. Raises
    ModelError at once if ``dataloader_fn`` is no function, and while streaming for anything but such batches.
    """

    def __init__(self, dataloader_fn: Any, where: str) -> None:
        if not callable(dataloader_fn):
            raise ModelError(
                f"get_dataloader_fn of {where} returned {_kind(dataloader_fn)}: a function is wanted that yields "
                "(ids, x, y)"
            )
        self.source: Callable[[], Any] = dataloader_fn
        self._where = where
        self._array = np.asarray if getattr(dataloader_fn, "makes_new_arrays", False) else np.array
        self.num_rows: int | None = getattr(dataloader_fn, "num_rows", None)

    def __call__(self) -> Iterator[tuple[Array, Arrays, Arrays]]:
        try:
            for batch in self.source():
                yield self._plain(batch)
        except Exception as error:
            own = data_error_in(str(error))
            if own is None:
                raise
            raise own from error

    def _plain(self, batch: Any) -> tuple[Array, Arrays, Arrays]:
        if not isinstance(batch, tuple | list) or len(batch) != 3:
            raise ModelError(f"the dataloader of {self._where} yields {_kind(batch)}: (ids, x, y) is wanted")
        ids, x, y = batch
        return self._array(ids), self._arrays("x", x), {} if y is None else self._arrays("y", y)

    def _arrays(self, part: str, tensors: Any) -> Arrays:
        if not isinstance(tensors, Mapping):
            raise ModelError(
                f"the dataloader of {self._where} yields {_kind(tensors)} as {part}: {{name: array}} is wanted"
            )
        return {name: self._array(tensor) for name, tensor in tensors.items()}


def _kind(found: object) -> str:
    if isinstance(found, tuple | list):
        return f"a {type(found).__name__} of {len(found)}"
    return "None" if found is None else f"a {type(found).__name__}"
