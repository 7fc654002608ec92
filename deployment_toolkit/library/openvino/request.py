"""One inference on a compiled OpenVINO model."""

from __future__ import annotations

from typing import Any

from deployment_toolkit.core import Array, Arrays


def ask(request: Any, x: Arrays) -> list[Array]:
    """The outputs of an inference request, in their order and copied, for the next inference overwrites them. Raises
    RuntimeError with the engine's words.

    It runs in a thread of the engine's. In the caller's (``request.infer``), where the engine has one stream of one
    thread, OpenVINO 2026.4 drops what goes wrong, and the outputs hold what another batch has left in them.
    """
    request.start_async(x, share_inputs=True)
    request.wait()
    return [tensor.data.copy() for tensor in request.output_tensors]
