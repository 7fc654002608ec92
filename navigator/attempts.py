"""Conversions that the options of ``convert`` request: a chain of steps for each."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from deployment_toolkit.core import REDUCED_PRECISIONS, Format, Mnemonic, Precision
from deployment_toolkit.errors import UsageError
from deployment_toolkit.library.registry import CONVERTERS, converter
from deployment_toolkit.options.argument_types import enum_type
from deployment_toolkit.options.params import option
from navigator.options import TensorRTOptions, given, tell_unused

logger = logging.getLogger("convert")

NEED_GPU = (Format.TRT, Format.TF_TRT)
# Number formats from the narrowest to the widest, and the number formats of each target. The other targets keep the
# precision of the exported source.
_WIDER = (Precision.INT8, Precision.FP16, Precision.TF32, Precision.FP32)
_PRECISIONS = {
    Format.TRT: _WIDER,
    Format.TF_TRT: (Precision.FP16, Precision.FP32),
    Format.OPENVINO: (Precision.INT8, Precision.BF16, Precision.FP16, Precision.FP32),
    Format.ONNX: (Precision.INT8, Precision.FP16, Precision.FP32),  # fp32: the file as it was exported
}

Variant = tuple[str, dict[str, Any]]  # its name, and the converter's options


class PrecisionsMode(Mnemonic):
    """Precisions that a number format allows: itself and all wider ones, only itself, or an attempt of each kind."""

    HIERARCHY = "hierarchy"
    SINGLE = "single"
    MIXED = "mixed"


def _parse_target(text: str) -> Any:
    """Option type for a format; Model Navigator knows TorchScript by two more names."""
    named = Format.TORCHSCRIPT if text.casefold() in ("ts-trace", "ts-script") else text
    return enum_type(Format)(named)


@dataclass(frozen=True)
class TargetOptions:
    """Options of the conversion targets."""

    target_formats: list[Format] = option(
        "formats to make, the best first", [Format.ONNX], type=_parse_target, nargs="+", unique=True
    )
    onnx_opsets: list[int] = option(
        "ONNX operator sets to try, an attempt each", [13], type=int, nargs="+", unique=True
    )
    tensorrt_precisions: list[Precision] = option(
        "number formats to make, an attempt each, for trt, tf-trt, openvino and onnx; the other targets keep the "
        "exported model's; onnx: fp32 is the file as exported, fp16 has inputs and outputs in float32, int8 is for "
        "onnxruntime on any CPU; openvino: bf16 and int8 are arithmetic that the CPU must have; int8 needs "
        "--calibration-data-pattern",
        [Precision.FP32],
        aliases=("--target-precisions",),
        nargs="+",
        unique=True,
    )
    tensorrt_precisions_mode: PrecisionsMode = option(
        "number formats that the builder of trt may use: hierarchy: the given one and every wider one (int8, fp16, "
        "tf32, fp32); single: only the given one; mixed: an attempt of each kind",
        PrecisionsMode.HIERARCHY,
        aliases=("--target-precisions-mode",),
    )
    tensorrt_explicit_precision: bool = option("trt: the model's own quantisation nodes decide the precision", False)
    tensorrt_strict_types: bool = option("trt: use only the requested precision, even if another is faster", False)
    tensorrt_sparse_weights: bool = option("trt: use kernels for sparse weights where weights are sparse", False)


@dataclass(frozen=True)
class ConversionStep:
    """One run of a converter. ``name`` is the name of its file and of its log; equal names are equal steps. A step that
    ``renames`` or ``packs`` changes the signature and no format. A step ``by_library`` is triton-model-navigator's."""

    name: str
    source: Format
    target: Format
    options: dict[str, Any] = field(default_factory=dict)
    renames: bool = False
    packs: bool = False
    by_library: bool = False


@dataclass(frozen=True)
class Attempt:
    """Steps from the source to a target."""

    steps: tuple[ConversionStep, ...]

    @property
    def name(self) -> str:
        """Name of the last step."""
        return self.steps[-1].name

    @property
    def format(self) -> Format:
        """Format of the result."""
        return self.steps[-1].target

    @property
    def reduced_precision(self) -> Precision | None:
        """Precision of the CPU's arithmetic, if it is intentionally narrower than float32."""
        precision = self.steps[-1].options.get("precision")
        on_cpu = self.format in (Format.OPENVINO, Format.ONNX)
        return precision if on_cpu and precision in REDUCED_PRECISIONS else None

    @property
    def needs_gpu(self) -> bool:
        """True if one of the formats is made or run only on a GPU."""
        return any(model_format in NEED_GPU for step in self.steps for model_format in (step.source, step.target))


def list_attempts(options: TargetOptions, source: Format, tensorrt: TensorRTOptions) -> list[Attempt]:
    """Conversions that the options request, the best first. Options that apply to no target are logged.

    Raises UsageError if a target can't be made from the source, or in none of the precisions.
    """
    targets = list(dict.fromkeys(options.target_formats))
    routes = [_route(source, target) for target in targets]
    _check_precisions(options, source, targets)
    _tell_unused(options, tensorrt, routes)
    planner = _Planner(options, tensorrt.tensorrt_max_workspace_size)
    return [attempt for route in routes for attempt in planner.attempts(route)]


def _route(source: Format, target: Format) -> tuple[Format, ...]:
    """Formats of a conversion: one direct converter, or two with a format between."""
    if (source, target) in CONVERTERS:
        return source, target
    for between in Format:
        if source != between and (source, between) in CONVERTERS and (between, target) in CONVERTERS:
            return source, between, target
    converter(source, target)  # raises an error that lists the supported formats
    raise AssertionError((source, target))


def _check_precisions(options: TargetOptions, source: Format, targets: Sequence[Format]) -> None:
    told = f"--target-precisions {' '.join(options.tensorrt_precisions)}"
    concerned = [target for target in targets if target in _PRECISIONS and (target != source or target is Format.ONNX)]
    keeping = ", ".join(target for target in targets if target not in concerned)
    if options.tensorrt_precisions != [Precision.FP32] and keeping:
        if not concerned:
            raise UsageError(f"{told}: {keeping} keeps the precision it was exported with, give fp32")
        logger.info("%s: for %s only, %s keeps the precision it was exported with", told, ", ".join(concerned), keeping)
    for target in concerned:
        left_out = [str(one) for one in options.tensorrt_precisions if one not in _PRECISIONS[target]]
        choices = ", ".join(_PRECISIONS[target])
        if len(left_out) == len(options.tensorrt_precisions):
            raise UsageError(f"{told}: {target} is made in {choices}, give one of these")
        if left_out:
            logger.info("%s: %s is made in %s, no attempt at %s", told, target, choices, ", ".join(left_out))


def _tell_unused(options: TargetOptions, tensorrt: TensorRTOptions, routes: Sequence[tuple[Format, ...]]) -> None:
    made = {target for route in routes for source, target in itertools.pairwise(route) if source != target}
    if Format.TRT not in made:
        names = ("precisions_mode", "explicit_precision", "strict_types", "sparse_weights")
        tell_unused(given(options, *(f"tensorrt_{name}" for name in names)), "for the target trt only")
    if made.isdisjoint((Format.TRT, Format.TF_TRT)):
        tell_unused(given(tensorrt), "for the targets trt and tf-trt only")
    if Format.ONNX not in made:
        tell_unused(given(options, "onnx_opsets"), "no ONNX file is made of another format")


class _Planner:
    """Planner of a route's attempts: variants of every hop, and the steps of each combination."""

    def __init__(self, options: TargetOptions, max_workspace_size_bytes: int) -> None:
        self._options = options
        self._workspace = {"max_workspace_size_bytes": max_workspace_size_bytes}

    def attempts(self, route: tuple[Format, ...]) -> list[Attempt]:
        hops = list(itertools.pairwise(route))
        if route[-1] is Format.ONNX and route[0] is not Format.ONNX:
            hops.append((Format.ONNX, Format.ONNX))  # its precisions are made from the file as exported
        attempts = []
        for chosen in itertools.product(*(self._variants(*hop) for hop in hops)):
            steps: list[ConversionStep] = []
            tags = []
            for (source, target), (tag, options) in zip(hops, chosen, strict=True):
                if steps and source == target and not tag:
                    continue
                tags += [tag] if tag else []
                steps.append(ConversionStep("-".join([target, *tags]), source, target, options))
            attempts.append(Attempt(tuple(steps)))
        return attempts

    def _variants(self, source: Format, target: Format) -> list[Variant]:
        asked, possible = dict.fromkeys(self._options.tensorrt_precisions), _PRECISIONS.get(target, ())
        precisions = [one for one in asked if one in possible]
        if source is target is Format.ONNX:
            return [("", {}) if one is Precision.FP32 else (str(one), {"precision": one}) for one in precisions]
        if source == target:
            return [("", {})]
        if target is Format.ONNX:
            return [(f"opset{opset}", {"opset": opset}) for opset in dict.fromkeys(self._options.onnx_opsets)]
        if target is Format.TRT:
            return self._tensorrt_variants()
        common = self._workspace if target is Format.TF_TRT else {}
        return [(str(precision), {"precision": precision, **common}) for precision in precisions]

    def _tensorrt_variants(self) -> list[Variant]:
        options, mode = self._options, self._options.tensorrt_precisions_mode
        common = {
            "explicit_precision": options.tensorrt_explicit_precision,
            "strict_types": options.tensorrt_strict_types,
            "sparse_weights": options.tensorrt_sparse_weights,
            **self._workspace,
        }
        allowed: dict[tuple[Precision, ...], str] = {}  # the same set twice, as for fp32, is one attempt
        for single in (False, True):
            for precision in options.tensorrt_precisions:
                if mode is not (PrecisionsMode.HIERARCHY if single else PrecisionsMode.SINGLE):
                    wider = (precision,) if single else _WIDER[_WIDER.index(precision) :]
                    allowed.setdefault(wider, f"{precision}-{'single' if single else 'hierarchy'}")
        return [(tag, {"precisions": precisions, **common}) for precisions, tag in allowed.items()]
