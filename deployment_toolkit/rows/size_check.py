"""Check that a model gives the same answers to the same rows in requests of every size.

An engine has different code for different numbers of rows. A fault may give wrong answers in one size, without an
error, and right answers in all others. So the same rows are sent in many sizes, and the answers are compared.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deployment_toolkit.core import Array, Arrays, ModelSpec, Precision
from deployment_toolkit.errors import ModelError, SizeError
from deployment_toolkit.packing import pack
from deployment_toolkit.rows.sample import random_rows

# Largest allowed difference between answers in two sizes, relative to the largest magnitude of the output. Measured
# with the full-size network between any two sizes: 1.8e-7 in float32, 0 in the other precisions on a CPU with AVX-512
# and AMX. Other CPUs round at other places, so the other precisions have ten times (int8: five times) the whole
# precision's difference from float32.
TOLERANCES = {
    Precision.FP32: 1e-5,
    Precision.TF32: 5e-3,
    Precision.FP16: 5e-3,
    Precision.BF16: 0.03,
    Precision.INT8: 0.1,
}
GPU_TOLERANCE = 1e-4  # for float32 on a GPU, where libraries split long sums by batch size
_SEED = 512
_FREE = (0, 1)  # for integers without a range: valid for a table of any length and for a flag
_REMEDY = "load it again; if the error stays, convert the model again or serve it in another format"


@dataclass(frozen=True)
class _Worst:
    """Row of an output in which the answers of ``size`` and of the largest size differ most."""

    distance: float = 0.0
    output: str = ""
    row: int = 0
    size: int = 0


class SizeComparison:
    """Answers of a model to seeded random rows, from its value ranges, in requests of each of ``sizes``.

    Every row is sent in the two largest sizes, and the first rows in the other sizes too. ``largest`` is the largest
    difference between the largest size and another; NaN equals NaN. ``sizes`` are the sizes that were sent: the rest
    is left out if the total time would exceed ``patience_s``. Raises ModelError if the model fails on a size or returns
    another number of rows.
    """

    def __init__(
        self,
        infer: Callable[[Arrays], Arrays],
        spec: ModelSpec,
        sizes: Sequence[int],
        patience_s: float = math.inf,
    ) -> None:
        self._infer = infer
        self._free = {tensor.name for tensor in spec.outputs if -1 in tensor.shape}
        self._rows = max(sizes)
        self._x = check_rows(spec, self._rows)
        self._answers: dict[int, dict[int, Arrays]] = {}  # by size and first row
        started, asked = time.monotonic(), 0
        for size in sorted(set(sizes)):
            seconds = time.monotonic() - started
            if asked and seconds + seconds / asked * 2 * size > patience_s:  # twice: see below
                break
            self._answers[size] = {}
            self._ask(size, 0)
            asked += size
        self._sizes = list(self._answers)
        self._rows = self._sizes[-1]
        for size in self._sizes[-2:-1]:
            for start in range(size, self._rows, size):
                self._ask(size, start)
        self._magnitudes = {name: self._magnitude(name) for name in self._answers[self._rows][0]}
        self._worst = self._find_worst()

    @property
    def sizes(self) -> Sequence[int]:
        """Request sizes that were sent, ascending."""
        return self._sizes

    @property
    def largest(self) -> float:
        """Largest difference relative to the output's largest magnitude; infinite if outputs that are no floats
        differ."""
        return self._worst.distance

    def require(self, tolerance: float) -> None:
        """Raises SizeError if the answers differ by more. The row that differs most is compared in all sizes; a size is
        wrong if it differs from the majority."""
        if self.largest <= tolerance:
            return
        name, row = self._worst.output, self._worst.row
        answers = {size: self._answer(size, row, name) for size in self._sizes}
        alike = {
            a: [b for b in self._sizes if self._distances(name, answers[a], answers[b])[0] <= tolerance]
            for a in self._sizes
        }
        right = max(self._sizes, key=lambda size: len(alike[size]))
        wrong = [size for size in self._sizes if size not in alike[right]]
        if not wrong or 2 * len(alike[right]) <= len(self._sizes):
            right, wrong = self._worst.size, [self._rows]
            what = f"requests of {right} and of {self._rows} rows are answered differently, either may be wrong"
        else:
            what = f"requests of {_listed(wrong)} rows are answered wrongly"
        wrong_size = max(wrong, key=lambda size: float(self._distances(name, answers[size], answers[right])[0]))
        raise SizeError(f"{what}: {self._told(name, row, answers[wrong_size], answers[right], tolerance)}; {_REMEDY}")

    def _told(self, name: str, row: int, wrong: Array, right: Array, tolerance: float) -> str:
        if wrong.shape != right.shape:
            return f"output {name} of row {row} has shape {list(wrong.shape[1:])} instead of {list(right.shape[1:])}"
        if not np.issubdtype(wrong.dtype, np.floating):
            at = int(np.argmax((wrong != right).reshape(-1)))
            return f"output {name} of row {row} is {wrong.flat[at]} instead of {right.flat[at]}, and may not differ"
        at = int(np.argmax(_relative(wrong, right, 1.0).reshape(-1)))
        a, b = float(wrong.flat[at]), float(right.flat[at])
        found = f"output {name} of row {row} differs by {abs(a - b):.3g} ({a:.7g} instead of {b:.7g})"
        return f"{found}, allowed is {tolerance * self._magnitudes[name]:.3g}"

    def _ask(self, size: int, start: int) -> Arrays:
        """Sends a request of ``size`` rows from ``start`` on, or of the last ``size`` rows."""
        start = min(start, self._rows - size)
        try:
            y = self._infer({name: array[start : start + size] for name, array in self._x.items()})
        except Exception as error:  # any error of the runtime
            raise ModelError(f"a request of {size} rows, tried before the model is ready, fails: {error}") from error
        for name, array in y.items():
            if array.ndim == 0 or len(array) != size:
                raise ModelError(f"a request of {size} rows is answered by {list(array.shape)} of output {name}")
        self._answers[size][start] = y
        return y

    def _answer(self, size: int, row: int, name: str) -> Array:
        """Output ``name`` of ``row`` in a request of ``size`` rows, sent now if no earlier request had this row; of
        several requests the answer that differs most from the largest size's."""
        windows = self._answers[size]
        if not any(start <= row < start + size for start in windows):
            self._ask(size, row)
        found = [y[name][row - start : row - start + 1] for start, y in windows.items() if start <= row < start + size]
        reference = self._answers[self._rows][0][name][row : row + 1]
        return max(found, key=lambda array: float(self._distances(name, array, reference)[0]))

    def _magnitude(self, name: str) -> float:
        arrays = [y[name] for windows in self._answers.values() for y in windows.values()]
        if not np.issubdtype(arrays[0].dtype, np.floating):
            return 0.0
        return max(float(np.abs(array, where=np.isfinite(array), out=np.zeros_like(array)).max()) for array in arrays)

    def _find_worst(self) -> _Worst:
        worst = _Worst()
        reference = self._answers[self._rows][0]
        for size in self._sizes[:-1]:
            for start, y in self._answers[size].items():
                for name, array in y.items():
                    distances = self._distances(name, array, reference[name][start : start + size])
                    row = int(np.argmax(distances))
                    if distances[row] > worst.distance:
                        worst = _Worst(float(distances[row]), name, start + row, size)
        return worst

    def _distances(self, name: str, a: Array, b: Array) -> Array:
        """Difference of each row; outputs of free shape are compared only if their shapes are equal."""
        if a.shape != b.shape:
            return np.full(len(a), 0.0 if name in self._free else np.inf)
        distances: Array = _relative(a, b, self._magnitudes[name]).reshape(len(a), -1).max(axis=1, initial=0.0)
        return distances


def check_rows(spec: ModelSpec, rows: int) -> Arrays:
    """Random rows, the same in each call, for any model: free dimensions are 1, strings are empty, integers without a
    range are 0 or 1."""
    inputs = [
        dataclasses.replace(
            tensor,
            shape=tensor.smallest_shape,
            value_range=tensor.value_range or (None if np.dtype(tensor.dtype).kind == "f" else _FREE),
        )
        for tensor in spec.unpacked.inputs
    ]
    x = random_rows(ModelSpec(tuple(inputs), ()), rows, _SEED)
    texts = {tensor.name: np.full((rows, *tensor.shape), "", object) for tensor in inputs if tensor.dtype == "object"}
    return pack(x | texts, spec)


def _relative(a: Array, b: Array, magnitude: float) -> Array:
    """Relative difference of each element; infinite if only one is NaN, or if elements that are no floats differ."""
    if not np.issubdtype(a.dtype, np.floating):
        return np.where(a == b, 0.0, np.inf)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(a.astype(np.float64) - b.astype(np.float64)) / (magnitude or 1.0)
    return np.where(same, 0.0, np.where(np.isnan(distance), np.inf, distance))


def _listed(sizes: Sequence[int]) -> str:
    *others, last = map(str, sizes)
    return f"{', '.join(others)} and {last}" if others else last
