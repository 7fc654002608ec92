"""A model of the Python backend for tests: y = x1 + sum(x2). The id 666 is answered with an error. An x1 above 1000
delays the answer by x1 - 1000 seconds. Tensors go through DLPack, because the backend misreads arrays of NumPy 2."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import triton_python_backend_utils as backend  # type: ignore[import-not-found]


class TritonPythonModel:
    """Answers each request separately."""

    def execute(self, requests: list[Any]) -> list[Any]:
        return [_answer(request) for request in requests]


def _answer(request: Any) -> Any:
    x1 = np.from_dlpack(backend.get_input_tensor_by_name(request, "x1"))
    x2 = np.from_dlpack(backend.get_input_tensor_by_name(request, "x2"))
    if x1.max() >= 1000:
        time.sleep(float(x1.max()) - 1000)
    if (x2 == 666).any():
        return backend.InferenceResponse([], backend.TritonError("id 666\nis marked"))
    y = x1 + x2.sum(axis=1, keepdims=True, dtype=np.float32)
    return backend.InferenceResponse([backend.Tensor.from_dlpack("y", y)])
