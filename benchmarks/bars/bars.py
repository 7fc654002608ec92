"""Definitions of the bars, as ratios of samples."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bars.bar import OPENVINO, TENSORFLOW, Bar, Cast, Quantity, Samples, divide, in_python
from deployment_toolkit.core import Precision
from deployment_toolkit.hardware import missing_instructions, widest_is_avx2

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


def _best_packed(samples: Samples, cast: Cast) -> list[float]:
    return divide(samples.series(Quantity.ONLINE, cast.best_packed), samples.series(Quantity.ONLINE, cast.baseline))


def _packed_no_worse_p99(samples: Samples, cast: Cast) -> bool:
    p99 = Quantity.ONLINE_P99
    return samples.median(p99, cast.best_packed) <= samples.median(p99, cast.baseline)


def _no_worse_p99(samples: Samples, cast: Cast) -> bool:
    p99 = Quantity.ONLINE_P99
    return samples.median(p99, cast.online) <= samples.median(p99, cast.baseline)


def _served_online(samples: Samples, cast: Cast) -> list[float]:
    served = samples.series(Quantity.ONLINE, cast.online)
    return divide(served, samples.series(Quantity.ENGINE, cast.online, cast.rows_in_flight))


def _onnx(cast: Cast) -> str:
    assert cast.onnx is not None, "else the bar is skipped"
    return cast.onnx


def _no_onnx(cast: Cast) -> str:
    return "" if cast.onnx is not None else "there is no onnx fp32 model among those measured"


def _hosts_online(subject: Callable[[Cast], str]) -> Callable[[Samples, Cast], list[float]]:
    """Throughput in the C++ host relative to that in the Python host."""
    return lambda samples, cast: divide(
        samples.series(Quantity.ONLINE, subject(cast)), samples.series(Quantity.ONLINE, in_python(subject(cast)))
    )


def _hosts_single(subject: Callable[[Cast], str]) -> Callable[[Samples, Cast], list[float]]:
    """Latency of one row in the C++ host relative to that in the Python host."""
    return lambda samples, cast: divide(
        samples.series(Quantity.LIGHT_P50, subject(cast), 1, concurrency=1),
        samples.series(Quantity.LIGHT_P50, in_python(subject(cast)), 1, concurrency=1),
    )


def _served(subject: Callable[[Cast], str]) -> Callable[[Samples, Cast], list[float]]:
    """Throughput of the largest batch in the server relative to that in process."""
    return lambda samples, cast: divide(
        samples.series(Quantity.OFFLINE, subject(cast), cast.largest),
        samples.series(Quantity.ENGINE, subject(cast), cast.largest),
    )


def _packed(quantity: Quantity, rows: int | None, concurrency: int) -> Callable[[Samples, Cast], list[float]]:
    """Requests of two tensors relative to those of all; ``rows`` is None for the cast's online batch."""

    def ratios(samples: Samples, cast: Cast) -> list[float]:
        point = rows or cast.online_batch
        two, all_of_them = (
            samples.series(quantity, subject, point, concurrency=concurrency)
            for subject in (cast.int8_packed, cast.int8)
        )
        return divide(two, all_of_them)

    return ratios


def _int8_on_avx2(samples: Samples, cast: Cast) -> list[float]:
    fp32 = [title for title in (cast.baseline, cast.onnx, "openvino fp32") if title is not None]
    known = {sample.subject for sample in samples.all if sample.quantity is Quantity.OFFLINE and sample.round}
    best = max(
        (title for title in fp32 if title in known),
        key=lambda title: samples.median(Quantity.OFFLINE, title, cast.largest),
    )
    return divide(
        samples.series(Quantity.OFFLINE, cast.int8, cast.largest), samples.series(Quantity.OFFLINE, best, cast.largest)
    )


def _no_avx2(cast: Cast) -> str:
    return "" if widest_is_avx2() else "this CPU has AVX-512, so it does not show one with AVX2 alone"


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


def _further_instance(subject: Callable[[Cast], str]) -> Callable[[Samples, Cast], list[float]]:
    """Memory of a further instance (half of two) relative to the memory that the first instance adds to a server
    without models."""

    def ratios(samples: Samples, cast: Cast) -> list[float]:
        none, one, _, three = (samples.series(Quantity.MEMORY, subject(cast), count) for count in (0, *_INSTANCES))
        return divide(
            [(many - first) / 2 for many, first in zip(three, one, strict=True)],
            [first - empty for first, empty in zip(one, none, strict=True)],
        )

    return ratios


def _pipeline(samples: Samples, cast: Cast) -> list[float]:
    pipeline = samples.series(Quantity.PIPELINE, cast.offline)
    return divide(pipeline, samples.series(Quantity.ENGINE, cast.offline, cast.largest))


_AT_ONCE = 64


def _offline_of(cast: Cast) -> str:
    return cast.offline


def _baseline(cast: Cast) -> str:
    return cast.baseline


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
        Bar(
            "online-packed",
            "online, {cast.concurrency} × {cast.online_batch} rows: {cast.best_packed} ÷ {cast.baseline}, "
            "inferences/s, at no worse p99",
            3.0,
            _best_packed,
            holds=_packed_no_worse_p99,
        ),
        Bar(
            "tensorflow-online",
            "online, {cast.concurrency} × {cast.online_batch} rows: {cast.baseline}, C++ ÷ Python host, inferences/s",
            1.15,
            _hosts_online(_baseline),
        ),
        Bar(
            "tensorflow-single",
            "online, 1 × 1 row, light client: {cast.baseline}, p50 in the C++ ÷ in the Python host",
            0.6,
            _hosts_single(_baseline),
            at_most=True,
        ),
        Bar(
            "onnx-online",
            "online, {cast.concurrency} × {cast.online_batch} rows: {cast.onnx_title}, C++ ÷ Python host, inferences/s",
            1.15,
            _hosts_online(_onnx),
            lacks=_no_onnx,
        ),
        Bar(
            "onnx-single",
            "online, 1 × 1 row, light client: {cast.onnx_title}, p50 in the C++ ÷ in the Python host",
            0.8,
            _hosts_single(_onnx),
            at_most=True,
            lacks=_no_onnx,
        ),
        Bar(
            "packed-rate",
            "online, 64 × 1 row, light client: {cast.int8}, packed ÷ a tensor an input, rows/s",
            1.7,
            _packed(Quantity.LIGHT, 1, _AT_ONCE),
        ),
        Bar(
            "packed-latency",
            "online, 1 × 1 row, light client: {cast.int8}, p50 packed ÷ a tensor an input",
            0.6,
            _packed(Quantity.LIGHT_P50, 1, 1),
            at_most=True,
        ),
        Bar(
            "packed-rows",
            "online, 64 × {cast.online_batch} rows, light client: {cast.int8}, packed ÷ a tensor an input, rows/s",
            1.25,
            _packed(Quantity.LIGHT, None, _AT_ONCE),
        ),
        Bar("served-offline", "{cast.offline}, batch {cast.largest}: served ÷ in process", 0.95, _served(_offline_of)),
        Bar(
            "served-tensorflow", "{cast.baseline}, batch {cast.largest}: served ÷ in process", 0.95, _served(_baseline)
        ),
        Bar(
            "served-onnx",
            "{cast.onnx_title}, batch {cast.largest}: served ÷ in process",
            0.95,
            _served(_onnx),
            lacks=_no_onnx,
        ),
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
            "int8-avx2",
            "{cast.int8} ÷ the best fp32, batch {cast.largest}, on a CPU with AVX2 alone",
            1.9,
            _int8_on_avx2,
            lacks=_no_avx2,
        ),
        Bar(
            "memory",
            "{cast.offline}: memory of a further instance ÷ of the first",
            0.05,
            _further_instance(_offline_of),
            at_most=True,
        ),
        Bar(
            "memory-tensorflow",
            "{cast.baseline}: memory of a further instance ÷ of the first",
            0.05,
            _further_instance(_baseline),
            at_most=True,
        ),
        Bar(
            "memory-onnx",
            "{cast.onnx_title}: memory of a further instance ÷ of the first",
            0.05,
            _further_instance(_onnx),
            at_most=True,
            lacks=_no_onnx,
        ),
        Bar("pipeline", "{cast.offline}: inference, dump and metrics ÷ in process, rows/s", 0.85, _pipeline),
    )
}
