"""Bars: ratios of measured values, each with a goal. Numbers in, numbers out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from deployment_toolkit.core import Mnemonic
from deployment_toolkit.errors import PerformanceError

OPENVINO, TENSORFLOW = "OpenVINO", "TensorFlow"  # libraries of the matrix products alone
SCOUTING = 0  # the round that chooses the subjects of the other rounds


class Quantity(Mnemonic):
    """Quantity of a sample, with its unit."""

    OFFLINE = "offline, inferences/s"
    OFFLINE_P99 = "offline, p99 in us"
    ONLINE = "online, inferences/s"
    ONLINE_P99 = "online, p99 in us"
    LIGHT = "online with a light client, rows/s"
    LIGHT_P50 = "online with a light client, p50 in us"
    ENGINE = "in process, rows/s"
    PRODUCTS = "matrix products alone, rows/s"
    MEMORY = "memory, PSS in bytes"  # the batch column holds the number of instances
    PIPELINE = "pipeline, rows/s"
    PIPELINE_START = "pipeline start-up, s"
    CPU = "CPU, cores"  # the process column names the process


@dataclass(frozen=True)
class BarSample:
    """One measured value. ``round`` counts from 1; 0 is the scouting."""

    round: int
    quantity: Quantity
    subject: str
    batch: int
    concurrency: int
    value: float
    settled: bool = True
    process: str = ""


class Samples:
    """All samples so far."""

    def __init__(self, samples: Iterable[BarSample] = ()) -> None:
        self.all = list(samples)

    def series(
        self,
        quantity: Quantity,
        subject: str,
        batch: int | None = None,
        process: str = "",
        concurrency: int | None = None,
    ) -> list[float]:
        """Values of the rounds in order, without the scouting. Raises PerformanceError if there are none."""
        found = [
            sample
            for sample in self.all
            if (sample.quantity, sample.subject, sample.process) == (quantity, subject, process)
            and batch in (None, sample.batch)
            and concurrency in (None, sample.concurrency)
            and sample.round != SCOUTING
        ]
        if not found:
            raise PerformanceError(f"{quantity} of {subject} was not measured")
        return [sample.value for sample in sorted(found, key=lambda sample: sample.round)]

    def median(self, quantity: Quantity, subject: str, batch: int | None = None) -> float:
        """Median of ``series``."""
        return statistics.median(self.series(quantity, subject, batch))

    def best_batch(self, subject: str, batches: Sequence[int]) -> int:
        """Batch size with the highest median throughput offline."""
        return max(batches, key=lambda batch: self.median(Quantity.OFFLINE, subject, batch))

    def scouted(self, quantity: Quantity, subject: str, batch: int) -> float:
        """Value of the scouting. Raises PerformanceError if there is none."""
        for sample in self.all:
            if (sample.round, sample.quantity, sample.subject, sample.batch) == (SCOUTING, quantity, subject, batch):
                return sample.value
        raise PerformanceError(f"{quantity} of {subject} was not measured")


@dataclass(frozen=True)
class Cast:
    """Titles of the contestants by role, and the points to measure. ``batches`` are measured offline, the largest
    last."""

    baseline: str
    offline: str  # most inferences/s at the largest batch
    single: str  # lowest p99 at batch 1
    online: str  # most inferences/s online
    bf16: str | None
    onnx: str | None
    int8: str  # or the best online, if there is no int8
    batches: tuple[int, ...]
    online_batch: int
    concurrency: int

    @property
    def best_packed(self) -> str:
        """The best online, with requests of two tensors."""
        return packed(self.online)

    @property
    def int8_packed(self) -> str:
        """The int8 contestant, with requests of two tensors."""
        return packed(self.int8)

    @property
    def onnx_title(self) -> str:
        """Title of the ONNX contestant for people, also if there is none."""
        return self.onnx or "onnx fp32"

    @property
    def largest(self) -> int:
        """Largest batch."""
        return self.batches[-1]

    @property
    def bf16_title(self) -> str:
        """Title of the bf16 contestant for people, also if there is none."""
        return self.bf16 or "openvino bf16"

    @property
    def rows_in_flight(self) -> int:
        """Rows of all concurrent requests."""
        return self.online_batch * self.concurrency


@dataclass(frozen=True)
class Bar:
    """A ratio and its goal, at least or at most. ``ratios`` gives a value per round; ``holds``, if given, must be true
    too; ``lacks``, if given, returns the reason why a cast can't be measured, or an empty text. ``what`` is a line with
    placeholders for the cast."""

    key: str
    what: str
    goal: float
    ratios: Callable[[Samples, Cast], list[float]]
    at_most: bool = False
    holds: Callable[[Samples, Cast], bool] | None = None
    lacks: Callable[[Cast], str] | None = None


@dataclass(frozen=True)
class BarOutcome:
    """Result of a bar: its ratios, or the reason why it was not measured."""

    bar: Bar
    what: str
    ratios: list[float] = field(default_factory=list)
    holds: bool = True
    failure: str = ""
    skipped: str = ""

    @property
    def median(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool:
        """True if the median reaches the goal and ``holds`` is true."""
        if self.failure or self.skipped or not self.holds:
            return False
        return self.median <= self.bar.goal if self.bar.at_most else self.median >= self.bar.goal


def outcome(bar: Bar, samples: Samples, cast: Cast, failure: str = "") -> BarOutcome:
    """Evaluates a bar on the samples; ``failure`` is the error of a measurement that it needs."""
    what = bar.what.format(cast=cast)
    lacking = bar.lacks(cast) if bar.lacks is not None else ""
    if lacking:
        return BarOutcome(bar, what, skipped=lacking)
    try:
        if failure:
            raise PerformanceError(failure)
        holds = bar.holds is None or bar.holds(samples, cast)
        return BarOutcome(bar, what, bar.ratios(samples, cast), holds)
    except PerformanceError as error:
        return BarOutcome(bar, what, failure=" ".join(str(error).split()))


def packed(title: str) -> str:
    """Title of the same contestant with requests of two tensors."""
    return f"{title}, packed"


def in_python(title: str) -> str:
    """Title of the same contestant in the Python host."""
    return f"{title}, Python host"


def divide(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Ratios of each round. Raises PerformanceError if the numbers of rounds differ."""
    if len(above) != len(below):
        raise PerformanceError(f"{len(above)} and {len(below)} rounds were measured: some failed")
    return [one / other for one, other in zip(above, below, strict=True)]
