"""Plan of the measurements that each bar needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.bars.bar import Cast, in_python
from deployment_toolkit.core import Mnemonic
from deployment_toolkit.hardware import widest_is_avx2


class StepKind(Mnemonic):
    """Kind of a measurement."""

    OFFLINE = "offline"
    ONLINE = "online"
    LIGHT = "online with a light client"
    ENGINE = "in process"
    PRODUCTS = "matrix products"
    PIPELINE = "pipeline"
    MEMORY = "memory"


@dataclass(frozen=True)
class RoundStep:
    """One measurement of one subject; only some kinds use the batches."""

    kind: StepKind
    subject: str
    batches: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}, {self.subject}"


def _both_hosts(kind: StepKind, title: str | None) -> list[RoundStep]:
    return [] if title is None else [RoundStep(kind, title), RoundStep(kind, in_python(title))]


def _both_signatures(cast: Cast) -> list[RoundStep]:
    return [RoundStep(StepKind.LIGHT, cast.int8), RoundStep(StepKind.LIGHT, cast.int8_packed)]


def _served(cast: Cast, title: str | None) -> list[RoundStep]:
    kinds = (StepKind.OFFLINE, StepKind.ENGINE)
    return [] if title is None else [RoundStep(kind, title, (cast.largest,)) for kind in kinds]


_NEEDS: dict[str, Callable[[Cast], list[RoundStep]]] = {
    "offline": lambda cast: [
        RoundStep(StepKind.OFFLINE, cast.baseline, cast.batches),
        RoundStep(StepKind.OFFLINE, cast.offline, cast.batches),
    ],
    "latency": lambda cast: [
        RoundStep(StepKind.OFFLINE, cast.baseline, (1,)),
        RoundStep(StepKind.OFFLINE, cast.single, (1,)),
    ],
    "online": lambda cast: [RoundStep(StepKind.ONLINE, cast.baseline), RoundStep(StepKind.ONLINE, cast.online)],
    "online-packed": lambda cast: [
        RoundStep(StepKind.ONLINE, cast.baseline),
        RoundStep(StepKind.ONLINE, cast.best_packed),
    ],
    "tensorflow-online": lambda cast: _both_hosts(StepKind.ONLINE, cast.baseline),
    "tensorflow-single": lambda cast: _both_hosts(StepKind.LIGHT, cast.baseline),
    "onnx-online": lambda cast: _both_hosts(StepKind.ONLINE, cast.onnx),
    "onnx-single": lambda cast: _both_hosts(StepKind.LIGHT, cast.onnx),
    "packed-rate": lambda cast: _both_signatures(cast),
    "packed-latency": lambda cast: _both_signatures(cast),
    "packed-rows": lambda cast: _both_signatures(cast),
    "served-offline": lambda cast: _served(cast, cast.offline),
    "served-tensorflow": lambda cast: _served(cast, cast.baseline),
    "served-onnx": lambda cast: _served(cast, cast.onnx),
    "int8-avx2": lambda cast: (
        [
            RoundStep(StepKind.OFFLINE, title, (cast.largest,))
            for title in (cast.int8, cast.baseline, cast.onnx)
            if title is not None
        ]
        if widest_is_avx2()
        else []
    ),
    "served-online": lambda cast: [
        RoundStep(StepKind.ONLINE, cast.online),
        RoundStep(StepKind.ENGINE, cast.online, (cast.rows_in_flight,)),
    ],
    "products": lambda cast: (
        []
        if cast.bf16 is None
        else [
            RoundStep(StepKind.OFFLINE, cast.bf16, (cast.largest,)),
            RoundStep(StepKind.PRODUCTS, cast.bf16, (cast.largest,)),
        ]
    ),
    "pipeline": lambda cast: [
        RoundStep(StepKind.ENGINE, cast.offline, (cast.largest,)),
        RoundStep(StepKind.PIPELINE, cast.offline),
    ],
    "memory": lambda cast: [RoundStep(StepKind.MEMORY, cast.offline)],
    "memory-tensorflow": lambda cast: [RoundStep(StepKind.MEMORY, cast.baseline)],
    "memory-onnx": lambda cast: [] if cast.onnx is None else [RoundStep(StepKind.MEMORY, cast.onnx)],
}


def steps_for(bars: Iterable[str], cast: Cast) -> list[RoundStep]:
    """Steps for the bars: each kind and subject once, with the batches of all bars that need it, ordered by kind."""
    batches: dict[tuple[StepKind, str], set[int]] = {}
    for bar in bars:
        for step in _NEEDS[bar](cast):
            batches.setdefault((step.kind, step.subject), set()).update(step.batches)
    order = list(StepKind)
    steps = [RoundStep(kind, subject, tuple(sorted(sizes))) for (kind, subject), sizes in batches.items()]
    return sorted(steps, key=lambda step: order.index(step.kind))
