"""Definitions of the eight bars, as ratios of samples."""

from __future__ import annotations

from benchmarks.bars.bar import OPENVINO, TENSORFLOW, Bar, Cast, Quantity, Samples, divide
from deployment_toolkit.core import Precision
from deployment_toolkit.hardware import missing_instructions

_INSTANCES = (1, 2, 3)


def _offline(samples: Samples, cast: Cast) -> list[float]:
    ours, theirs = (
        samples.series(Quantity.OFFLINE, subject, samples.best_batch(subject, cast.batches))
        for subject in (cast.offline, cast.baseline)
    )
    return divide(ours, theirs)


def _single(samples: Samples, cast: Cast) -> list[float]:
    p99 = Quantity.OFFLINE_P99
    return divide(samples.series(p99, cast.baseline, 1), samples.series(p99, cast.single, 1))


def _online(samples: Samples, cast: Cast) -> list[float]:
    return divide(samples.series(Quantity.ONLINE, cast.online), samples.series(Quantity.ONLINE, cast.baseline))


def _no_worse_p99(samples: Samples, cast: Cast) -> bool:
    p99 = Quantity.ONLINE_P99
    return samples.median(p99, cast.online) <= samples.median(p99, cast.baseline)


def _served_offline(samples: Samples, cast: Cast) -> list[float]:
    served = samples.series(Quantity.OFFLINE, cast.offline, cast.largest)
    return divide(served, samples.series(Quantity.ENGINE, cast.offline, cast.largest))


def _served_online(samples: Samples, cast: Cast) -> list[float]:
    served = samples.series(Quantity.ONLINE, cast.online)
    return divide(served, samples.series(Quantity.ENGINE, cast.online, cast.rows_in_flight))


def _no_bf16(cast: Cast) -> str:
    if cast.bf16 is not None:
        return ""
    return missing_instructions(Precision.BF16) or "there is no bf16 model among those measured"


def _products(samples: Samples, cast: Cast) -> list[float]:
    """Throughput relative to the matrix products alone, of the library with the faster median."""
    assert cast.bf16 is not None, "else the bar is skipped"
    limits = [samples.series(Quantity.PRODUCTS, OPENVINO), samples.series(Quantity.PRODUCTS, TENSORFLOW)]
    limit = max(limits, key=lambda series: sorted(series)[len(series) // 2])
    return divide(samples.series(Quantity.OFFLINE, cast.bf16, cast.largest), limit)


def _further_instance(samples: Samples, cast: Cast) -> list[float]:
    """Memory of a further instance (half of two) relative to the memory that the first instance adds to a server
    without models."""
    none, one, _, three = (samples.series(Quantity.MEMORY, cast.offline, count) for count in (0, *_INSTANCES))
    return divide(
        [(many - first) / 2 for many, first in zip(three, one, strict=True)],
        [first - empty for first, empty in zip(one, none, strict=True)],
    )


def _pipeline(samples: Samples, cast: Cast) -> list[float]:
    pipeline = samples.series(Quantity.PIPELINE, cast.offline)
    return divide(pipeline, samples.series(Quantity.ENGINE, cast.offline, cast.largest))


BARS = {
    bar.key: bar
    for bar in (
        Bar("offline", "offline, best batch: {cast.offline} ÷ {cast.baseline}, inferences/s", 3.5, _offline),
        Bar("latency", "offline, batch 1: p99 of {cast.baseline} ÷ p99 of {cast.single}", 3.0, _single),
        Bar(
            "online",
            "online, {cast.concurrency} × {cast.online_batch} rows: {cast.online} ÷ {cast.baseline}, inferences/s, at "
            "no worse p99",
            2.5,
            _online,
            holds=_no_worse_p99,
        ),
        Bar("served-offline", "{cast.offline}, batch {cast.largest}: served ÷ in process", 0.95, _served_offline),
        Bar(
            "served-online",
            "{cast.online}, {cast.concurrency} × {cast.online_batch} rows: served ÷ in process at batch "
            "{cast.rows_in_flight}",
            0.45,
            _served_online,
        ),
        Bar(
            "products",
            "{cast.bf16_title}, batch {cast.largest}: served ÷ its matrix products alone",
            0.92,
            _products,
            lacks=_no_bf16,
        ),
        Bar(
            "memory",
            "{cast.offline}: memory of a further instance ÷ of the first",
            0.35,
            _further_instance,
            at_most=True,
        ),
        Bar("pipeline", "{cast.offline}: inference, dump and metrics ÷ in process, rows/s", 0.85, _pipeline),
    )
}
