"""Plan of the measurements that each bar needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.bars.bar import Cast
from deployment_toolkit.core import Mnemonic


class StepKind(Mnemonic):
    """Kind of a measurement."""

    OFFLINE = "offline"
    ONLINE = "online"
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
    "served-offline": lambda cast: [
        RoundStep(StepKind.OFFLINE, cast.offline, (cast.largest,)),
        RoundStep(StepKind.ENGINE, cast.offline, (cast.largest,)),
    ],
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
