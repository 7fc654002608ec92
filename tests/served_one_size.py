"""A model of the Python backend for tests: y = 2 * x, but 0.99 in a batch of 100 rows, like an engine that is wrong in
one size. The batch is the requests that the server has joined."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as backend  # type: ignore[import-not-found]

WRONG_SIZE = 100


class TritonPythonModel:
    """Answers the joined requests together."""

    def execute(self, requests: list[Any]) -> list[Any]:
        given: list[Any] = [np.from_dlpack(backend.get_input_tensor_by_name(request, "x")) for request in requests]
        wrong = sum(map(len, given)) == WRONG_SIZE
        answers = [np.full_like(x, 0.99) if wrong else x * np.float32(2) for x in given]
        return [backend.InferenceResponse([backend.Tensor.from_dlpack("y", y)]) for y in answers]
