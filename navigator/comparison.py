"""Comparison of a candidate's answers with the source's, on batches of several sizes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deployment_toolkit.core import Arrays, Format, ModelSpec
from deployment_toolkit.errors import InputError, UsageError
from deployment_toolkit.files import fingerprint
from deployment_toolkit.library import registry
from deployment_toolkit.options.params import option
from deployment_toolkit.rows.sample import random_rows
from deployment_toolkit.rows.tolerance import OutputComparison, Tolerance
from navigator.profiles import ShapeBounds
from navigator.signature import Signature
from navigator.values import Named, Range, by_name, named, parse_dtype, parse_range, parse_tolerance

logger = logging.getLogger("convert")

_BATCH_SIZES = (1, 8, 64, 512)  # and the maximum
_DEFAULT_TOLERANCE = 1e-5
_REDUCED_TOLERANCE = 0.1
_SEED = 1

RowSource = Callable[[int], Arrays]


@dataclass(frozen=True)
class ComparisonOptions:
    """Options of the comparison: tolerances and rows."""

    atol: list[Named[float]] = option(
        "absolute tolerance, for all outputs or as output=value",
        [Named("", _DEFAULT_TOLERANCE)],
        type=named(parse_tolerance),
        nargs="+",
        adds_up=True,
        metavar="[OUTPUT=]VALUE",
    )
    rtol: list[Named[float]] = option(
        "relative tolerance, for all outputs or as output=value",
        [Named("", _DEFAULT_TOLERANCE)],
        type=named(parse_tolerance),
        nargs="+",
        adds_up=True,
        metavar="[OUTPUT=]VALUE",
    )
    reduced_precision_atol: list[Named[float]] = option(
        "absolute tolerance of bf16 and int8 on the CPU, in place of the two above; it finds broken models; the cost "
        "of the precision is measured by check_correctness.py with metrics",
        [Named("", _REDUCED_TOLERANCE)],
        type=named(parse_tolerance),
        nargs="+",
        adds_up=True,
        metavar="[OUTPUT=]VALUE",
    )
    value_ranges: list[Named[Range]] = option(
        "lowest and highest value of an input: random rows keep to it, real ones outside are refused",
        [],
        type=named(parse_range),
        nargs="+",
        adds_up=True,
        metavar="[INPUT=]LOW,HIGH",
    )
    dtypes: list[Named[str]] = option(
        "dtype of the rows of an input, checked against the model's",
        [],
        type=named(parse_dtype),
        nargs="+",
        adds_up=True,
        metavar="[INPUT=]DTYPE",
    )


class ModelComparison:
    """Batches, and the source's answers to them; the source runs once, when a candidate needs the answers.

    Raises UsageError if an option does not fit the model, InputError or DataError if the rows don't.
    """

    def __init__(
        self,
        source: tuple[Path, Format],
        signature: Signature,
        options: ComparisonOptions,
        bounds: ShapeBounds,
        real_rows: RowSource | None,
    ) -> None:
        self._source, self._signature = source, signature
        spec = signature.spec
        _check_dtypes(spec, options)
        ranges = _find_ranges(spec, options)
        outputs = [output.name for output in spec.outputs]
        self._tolerances = find_tolerances(options, outputs)
        reduced = by_name("--reduced-precision-atol", options.reduced_precision_atol, outputs, "output")
        self._reduced = {name: Tolerance(reduced.get(name, _REDUCED_TOLERANCE), 0) for name in outputs}
        sizes = batch_sizes(bounds)
        if real_rows is None:
            self.batches = _random_batches(spec, sizes, bounds, ranges)
        else:
            rows = signature.from_source(real_rows(sum(sizes)))
            _check_rows(spec, rows, bounds, ranges)
            self.batches = _cut(rows, sizes)
        kind = "random" if real_rows is None else "real"
        logger.info("comparing on batches of %s %s rows", [_rows(x) for x in self.batches], kind)

    def tolerances_of(self, *, reduced: bool) -> dict[str, Tolerance]:
        """Tolerances by output for a candidate, in float32 or in a narrower precision."""
        return self._reduced if reduced else self._tolerances

    @functools.cached_property
    def rows_fingerprint(self) -> str:
        """Fingerprint of the batches, which changes with any value."""
        return fingerprint.of_batches(self.batches)

    @functools.cached_property
    def _answers(self) -> list[Arrays]:
        path, model_format = self._source
        with registry.loader(model_format)().load(path) as session:
            return [self._signature.answers(session.infer(self._signature.to_source(x))) for x in self.batches]

    def compare(self, path: Path, model_format: Format, *, reduced: bool = False) -> str:
        """Compares a candidate's answers; returns a phrase with the result. Raises ToleranceError if they differ."""
        answers = self._answers
        comparison = OutputComparison(self.tolerances_of(reduced=reduced))
        with registry.loader(model_format)().load(path) as session:
            for x, answer in zip(self.batches, answers, strict=True):
                comparison.update(answer, session.infer(x))
        comparison.require_agreement(str(model_format))
        return f"{comparison.rows} rows agree, largest difference {comparison.max_abs_diff:.3g}"


def batch_sizes(bounds: ShapeBounds) -> list[int]:
    """Batch sizes: the smallest, the largest, and 1, 8, 64 and 512 if they are between them."""
    between = [size for size in _BATCH_SIZES if bounds.min_batch < size < bounds.max_batch]
    return list(dict.fromkeys([bounds.min_batch, *between, bounds.max_batch]))


def find_tolerances(options: ComparisonOptions, outputs: list[str]) -> dict[str, Tolerance]:
    """Tolerance of each output. Warns of a tolerance that accepts everything. Raises UsageError for unknown outputs."""
    atol = by_name("--atol", options.atol, outputs, "output")
    rtol = by_name("--rtol", options.rtol, outputs, "output")
    loose = [name for name in outputs if rtol.get(name, 0) >= 1]
    if loose:
        logger.warning("--rtol %g of %s lets every answer pass that differs by its own size", rtol[loose[0]], loose[0])
    return {name: Tolerance(atol.get(name, _DEFAULT_TOLERANCE), rtol.get(name, _DEFAULT_TOLERANCE)) for name in outputs}


def _check_dtypes(spec: ModelSpec, options: ComparisonOptions) -> None:
    dtypes = by_name("--dtypes", options.dtypes, [tensor.name for tensor in spec.inputs])
    for tensor in spec.inputs:
        wanted = dtypes.get(tensor.name, tensor.dtype)
        if wanted != tensor.dtype and any(item.name == tensor.name for item in options.dtypes):
            raise UsageError(f"--dtypes {tensor.name}={wanted}: the model takes {tensor.dtype} there")
        if wanted != tensor.dtype:
            raise UsageError(f"--dtypes {wanted}: the model's input {tensor.name} takes {tensor.dtype}, name it too")


def _find_ranges(spec: ModelSpec, options: ComparisonOptions) -> dict[str, Range]:
    """Bounds by input. Bounds of ids must be whole numbers, inside the model's value range."""
    ranges = by_name("--value-ranges", options.value_ranges, [tensor.name for tensor in spec.inputs])
    for tensor in spec.inputs:
        if tensor.name not in ranges:
            continue
        low, high = ranges[tensor.name]
        told = f"--value-ranges {tensor.name}={low:g},{high:g}"
        if np.issubdtype(np.dtype(tensor.dtype), np.integer) and not (low.is_integer() and high.is_integer()):
            raise UsageError(f"{told}: input {tensor.name} takes ids, give whole numbers")
        own = tensor.value_range
        if own is not None and not own[0] <= low <= high <= own[1]:
            raise UsageError(f"{told}: the model takes {own[0]} .. {own[1]} there")
    return ranges


def _random_batches(spec: ModelSpec, sizes: list[int], bounds: ShapeBounds, ranges: dict[str, Range]) -> list[Arrays]:
    """Random batches: the first with the smallest shapes, the last with the largest, the others with ``opt`` shapes."""
    batches = []
    for index, size in enumerate(sizes):
        fixed = bounds.fixed(spec, "max" if index == len(sizes) - 1 else "opt" if index else "min")
        batches.append(random_rows(fixed, size, _SEED + index, ranges))
    return batches


def _check_rows(spec: ModelSpec, rows: Arrays, bounds: ShapeBounds, ranges: dict[str, Range]) -> None:
    spec.check_inputs(rows)
    for name, profile in bounds.profiles.items():
        for size, low, high in zip(rows[name].shape[1:], profile.min[1:], profile.max[1:], strict=True):
            if not low <= size <= high:
                raise InputError(
                    f"rows of input {name} have the shape {list(rows[name].shape[1:])}, outside "
                    f"{list(profile.min[1:])} .. {list(profile.max[1:])}: fix --min-shapes or --max-shapes"
                )
    for name, (lowest, highest) in ranges.items():
        if rows[name].size and not lowest <= rows[name].min() <= rows[name].max() <= highest:
            raise InputError(
                f"rows of input {name} are from {rows[name].min():g} to {rows[name].max():g}, outside its "
                f"--value-ranges {lowest:g},{highest:g}"
            )


def _cut(rows: Arrays, sizes: list[int]) -> list[Arrays]:
    """Batches of consecutive rows, as long as there are rows."""
    batches, start = [], 0
    for size in sizes:
        batch = {name: np.ascontiguousarray(array[start : start + size]) for name, array in rows.items()}
        if _rows(batch):
            batches.append(batch)
        start += size
    return batches


def _rows(x: Arrays) -> int:
    return len(next(iter(x.values())))
