"""Wide & Deep as an MLServer runtime with adaptive batching. A request's rows are one base64 element: so MLServer joins
requests by appending to a list, and its REST interface, which has no binary tensors, has little to parse."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor

from mlserver import MLModel
from mlserver.codecs import Base64Codec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.engine import Engine


class WideDeepRuntime(MLModel):
    """Runtime of the model at ``parameters.uri``; ``parameters.extra`` has the engine's threads."""

    async def load(self) -> bool:
        """Loads the engine."""
        from pathlib import Path

        extra = self.settings.parameters.extra
        self._engine = Engine(Path(self.settings.parameters.uri), threads=extra["threads"])
        self._pool = ThreadPoolExecutor(1)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Runs one inference for all joined requests; MLServer separates the answers again."""
        bodies = [base64.b64decode(element) for element in payload.inputs[0].data]
        answers = await asyncio.get_running_loop().run_in_executor(self._pool, self._engine.answer_all, bodies)
        output = Base64Codec.encode_output("probabilities", answers, use_bytes=False)
        return InferenceResponse(model_name=self.name, outputs=[output])
