"""A model of the Python backend for tests. It answers numbers as they come, and of strings each one's CRC-32.
``gapped`` and ``constant`` are of arrays that are not whole. ``aligned`` tells whether the request's arrays are;
``kept``, whether those of all earlier requests still hold what they held.

A model ``late`` makes a tensor before it prepares them; ``hardened`` gets no memory for code."""

from __future__ import annotations

import mmap
import zlib
from typing import Any

import numpy as np
import triton_python_backend_utils as backend  # type: ignore[import-not-found]

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import ServerError
from deployment_toolkit.python_backend import tensors
from tests.deployment_toolkit.python_backend.echo_spec import NUMBERS, SPEC

GAPPED = np.arange(4 * 64, dtype=np.float32).reshape(64, 4)


class TritonPythonModel:
    """Answers each request separately."""

    def initialize(self, args: dict[str, str]) -> None:
        self._kept: list[tuple[Array, Array]] = []
        if args["model_name"] == "late":
            backend.Tensor("first", np.zeros(1)).as_numpy()
        if args["model_name"] == "hardened":
            mmap.mmap = forbidden  # type: ignore[assignment,misc]
        try:
            tensors.prepare(SPEC)
        except ServerError as error:
            raise backend.TritonModelException(str(error)) from None

    def execute(self, requests: list[Any]) -> list[Any]:
        return [
            backend.InferenceResponse(tensors.outputs(self._answer(tensors.inputs(request)))) for request in requests
        ]

    def _answer(self, x: Arrays) -> Arrays:
        rows = len(x["text"])
        kept = all(np.array_equal(array, copy) for array, copy in self._kept)
        self._kept += [(x[dtype], x[dtype].copy()) for dtype in NUMBERS]
        return {
            **{f"same_{dtype}": x[dtype] for dtype in NUMBERS},
            "crc32": np.vectorize(zlib.crc32, otypes=[np.int64])(x["text"]),
            "gapped": GAPPED[:rows, 1:3],
            "constant": np.broadcast_to(np.float32(7), (rows, 2)),
            "aligned": np.full(
                (rows, 1), all(array.ctypes.data % array.itemsize == 0 for array in x.values() if array.size)
            ),
            "kept": np.full((rows, 1), kept),
        }


def forbidden(*_: object, **__: object) -> None:
    raise PermissionError("memory for code")
