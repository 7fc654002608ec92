"""A model of Triton's Python backend that takes no core: y = x + 1, and each batch takes 40 ms, whatever its size.

So several servers on one machine have several times the capacity of one, as servers on machines of their own have.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

NAME = "waiting"
CAPACITY = 200  # requests per second of one server: batches of 4 in 40 ms, two at a time
_SERVICE_S = 0.04
_CONFIG = f"""
name: "{NAME}"
backend: "python"
max_batch_size: 4
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ 1 ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }} ]
instance_group [ {{ count: 2 kind: KIND_CPU }} ]
dynamic_batching {{ preferred_batch_size: [ 4 ] }}
"""


def add_waiting_model(repository: Path) -> None:
    """Makes a model repository with this model."""
    version = repository / NAME / "1"
    version.mkdir(parents=True)
    shutil.copyfile(__file__, version / "model.py")
    (repository / NAME / "config.pbtxt").write_text(_CONFIG)


class TritonPythonModel:
    """Answers the requests of a batch together."""

    def execute(self, requests: list[Any]) -> list[Any]:
        import triton_python_backend_utils as backend  # type: ignore[import-not-found]

        time.sleep(_SERVICE_S)
        x = [np.from_dlpack(backend.get_input_tensor_by_name(request, "x")) for request in requests]
        return [
            backend.InferenceResponse([backend.Tensor.from_dlpack("y", array + np.ones_like(array))]) for array in x
        ]
