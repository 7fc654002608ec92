"""A model for Triton's Python backend. It answers ``score = item``, refuses items outside its table, and writes the
items of each request to a file. With the parameter ``growing_delay`` each answer takes longer than the one before."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

ITEMS = 1000
FIRST_DELAY_S = 0.002
LARGEST_DELAY_S = 0.4


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.growth_per_s = 1.5 if "growing_delay" in config["parameters"] else None
        self.started = 0.0
        self.requests_path = Path(args["model_repository"]) / "requests.txt"

    def execute(self, requests: list[Any]) -> list[Any]:
        if self.growth_per_s is not None:
            self.started = self.started or time.monotonic()
            delay_s = FIRST_DELAY_S * self.growth_per_s ** (time.monotonic() - self.started)
            time.sleep(min(delay_s, LARGEST_DELAY_S))
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        items = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "shop/item"))
        with self.requests_path.open("a") as file:
            file.write(" ".join(map(str, items.reshape(-1))) + "\n")
        if items.min() < 0 or items.max() >= ITEMS:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("item outside the table"))
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("score", items.astype("float32"))])
