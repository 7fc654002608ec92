"""A model of the Python backend for tests: y = x + offset. Each version has a file ``behaviour.json`` with its
``offset``, the seconds ``load_s`` that loading takes, and what differs once it is a version of the model itself rather
than a candidate: ``promoted_offset``. ``breaks`` is ``candidate`` or ``promoted`` for one that can't be loaded so."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as backend  # type: ignore[import-not-found]


class TritonPythonModel:
    """Answers each request separately."""

    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"], args["model_version"])
        behaviour = json.loads((folder / "behaviour.json").read_text())
        place = "candidate" if args["model_name"].endswith("-candidate") else "promoted"
        if behaviour.get("breaks") == place:
            raise RuntimeError(f"a {place} is broken")
        self.offset = np.float32(behaviour.get(f"{place}_offset", behaviour["offset"]))
        time.sleep(behaviour.get("load_s", 0))

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        x: Any = np.from_dlpack(backend.get_input_tensor_by_name(request, "x"))
        return backend.InferenceResponse([backend.Tensor.from_dlpack("y", x + self.offset)])
