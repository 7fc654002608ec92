"""Inferences on a compiled OpenVINO model."""

from __future__ import annotations

import contextlib
from typing import Any

from deployment_toolkit.core import Array, Arrays


class Request:
    """Room in the engine for one inference at a time. Several of a model wait for each other in the engine.

    The inference runs in a thread of the engine. In the caller's thread (``request.infer``), if the engine has one
    stream of one thread, OpenVINO 2026.4 drops errors, and the outputs hold the values of an earlier batch.
    """

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()

    def ask(self, x: Arrays) -> list[Array]:
        """Outputs of an inference, as ``start`` and ``answers``."""
        self.start(x)
        return self.answers()

    def start(self, x: Arrays) -> None:
        """Starts an inference; the engine reads the arrays themselves, until it has ended. Raises RuntimeError with the
        engine's message."""
        self._inputs = x
        self._request.start_async(x, share_inputs=True)

    def answers(self) -> list[Array]:
        """Waits for the outputs, in order. They are copies, because the next inference overwrites the originals.
        Raises RuntimeError with the engine's message."""
        try:
            self._request.wait()
            return [tensor.data.copy() for tensor in self._request.output_tensors]
        finally:
            del self._inputs

    def drop(self) -> None:
        """Waits for the end of an inference whose outputs or errors nobody wants."""
        with contextlib.suppress(RuntimeError):
            self._request.wait()
        del self._inputs
