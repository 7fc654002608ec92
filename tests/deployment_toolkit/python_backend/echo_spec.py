"""The tensors of the model in ``served_echo.py``."""

from __future__ import annotations

from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.deploying.deployment import DTYPES

NUMBERS = tuple(dtype for dtype in DTYPES if dtype != "object")
SPEC = ModelSpec(
    (*(TensorSpec(dtype, dtype, (-1,)) for dtype in NUMBERS), TensorSpec("text", "object", (-1,))),
    (
        *(TensorSpec(f"same_{dtype}", dtype, (-1,)) for dtype in NUMBERS),
        TensorSpec("crc32", "int64", (-1,)),
        TensorSpec("gapped", "float32", (2,)),
        TensorSpec("constant", "float32", (2,)),
        TensorSpec("aligned", "bool", (1,)),
        TensorSpec("kept", "bool", (1,)),
    ),
)
