"""One inference on a compiled OpenVINO model."""

from __future__ import annotations

from typing import Any

from deployment_toolkit.core import Array, Arrays


def ask(request: Any, x: Arrays) -> list[Array]:
    """Outputs of an inference request, in order. They are copies, because the next inference overwrites the originals.
    Raises RuntimeError with the engine's message.

    The inference runs in a thread of the engine. In the caller's thread (``request.infer``), if the engine has one
    stream of one thread, OpenVINO 2026.4 drops errors, and the outputs hold the values of an earlier batch.
    """
    request.start_async(x, share_inputs=True)
    request.wait()
    return [tensor.data.copy() for tensor in request.output_tensors]
