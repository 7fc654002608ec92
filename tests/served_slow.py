"""A model of the Python backend for tests: y = x + 1, and each batch takes the time that the parameter
``service_s`` says, whatever its size."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as backend  # type: ignore[import-not-found]


class TritonPythonModel:
    """Answers the requests of a batch together."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        self.service_s = float(parameters["service_s"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        time.sleep(self.service_s)
        x = [np.from_dlpack(backend.get_input_tensor_by_name(request, "x")) for request in requests]
        return [
            backend.InferenceResponse([backend.Tensor.from_dlpack("y", array + np.ones_like(array))]) for array in x
        ]
