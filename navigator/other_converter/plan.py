"""Attempts that triton-model-navigator makes: one step from the source to the target, since the library makes what is
between by itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from deployment_toolkit.core import Format, Mnemonic, Precision
from deployment_toolkit.errors import UsageError
from navigator.attempts import Attempt, ConversionStep, TargetOptions
from navigator.options import given, tell_unused

logger = logging.getLogger("convert")

LIBRARY = "triton-model-navigator"
_ROUTES = {
    (Format.TF_SAVEDMODEL, Format.ONNX): (Precision.FP32,),
    (Format.TF_SAVEDMODEL, Format.TRT): (Precision.INT8, Precision.FP16, Precision.FP32),
    (Format.TF_SAVEDMODEL, Format.TF_TRT): (Precision.FP16, Precision.FP32),
    (Format.ONNX, Format.TRT): (Precision.INT8, Precision.FP16, Precision.FP32),
}
_SWITCHES = ("tensorrt_explicit_precision", "tensorrt_strict_types", "tensorrt_sparse_weights")


class ConverterKind(Mnemonic):
    """Who converts."""

    OWN = "own"
    TRITON_MODEL_NAVIGATOR = LIBRARY

    def sizes(self, attempts: int) -> int:
        """Sizes of the source that the models and what is kept beside them take at most on the disk."""
        if self is ConverterKind.OWN:
            return attempts + 1
        return 3 * attempts + 4  # each with a package of two models; the library's workspace has four meanwhile


def by_library(attempts: Sequence[Attempt], options: TargetOptions, source: Format) -> list[Attempt]:
    """The same attempts, each as one step of the library, with another name. Raises UsageError for a target or a
    precision that the library can't make from the source."""
    tell_unused(given(options, *_SWITCHES), f"{LIBRARY} has no such switches")
    return [_one_step(attempt, source) for attempt in attempts]


def _one_step(attempt: Attempt, source: Format) -> Attempt:
    if (source, attempt.format) not in _ROUTES:
        routes = ", ".join(" -> ".join(route) for route in _ROUTES)
        raise UsageError(
            f"{LIBRARY} makes no {attempt.format} of {source}, only {routes}: leave out --converter for this target"
        )
    merged = {key: value for step in attempt.steps for key, value in step.options.items()}
    precisions = merged.get("precisions") or (merged.get("precision", Precision.FP32),)
    possible = _ROUTES[source, attempt.format]
    if precisions[0] not in possible:
        raise UsageError(
            f"{LIBRARY} makes {attempt.format} in {', '.join(possible)}, not in {precisions[0]}: give one of these as "
            "--target-precisions"
        )
    kept: dict[str, Any] = {key: merged[key] for key in ("opset", "max_workspace_size_bytes") if key in merged}
    mode = "single" if len(precisions) == 1 else "hierarchy"
    step = ConversionStep(
        f"{attempt.name}-{LIBRARY}",
        source,
        attempt.format,
        {**kept, "precision": precisions[0], "precision_mode": mode},
        by_library=True,
    )
    return Attempt((step,))
