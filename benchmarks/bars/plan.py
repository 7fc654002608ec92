"""What has to be measured for which bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.bars.bar import Cast
from deployment_toolkit.core import Mnemonic


class Kind(Mnemonic):
    """Ways to measure."""

    OFFLINE = "offline"
    ONLINE = "online"
    ENGINE = "in process"
    PRODUCTS = "matrix products"
    PIPELINE = "pipeline"
    MEMORY = "memory"


@dataclass(frozen=True)
class Step:
    """One measurement of one subject; the batches count where the kind takes them."""

    kind: Kind
    subject: str
    batches: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}, {self.subject}"


_NEEDS: dict[str, Callable[[Cast], list[Step]]] = {
    "offline": lambda cast: [
        Step(Kind.OFFLINE, cast.baseline, cast.batches),
        Step(Kind.OFFLINE, cast.offline, cast.batches),
    ],
    "latency": lambda cast: [Step(Kind.OFFLINE, cast.baseline, (1,)), Step(Kind.OFFLINE, cast.single, (1,))],
    "online": lambda cast: [Step(Kind.ONLINE, cast.baseline), Step(Kind.ONLINE, cast.online)],
    "served-offline": lambda cast: [
        Step(Kind.OFFLINE, cast.offline, (cast.largest,)),
        Step(Kind.ENGINE, cast.offline, (cast.largest,)),
    ],
    "served-online": lambda cast: [
        Step(Kind.ONLINE, cast.online),
        Step(Kind.ENGINE, cast.online, (cast.rows_in_flight,)),
    ],
    "products": lambda cast: (
        []
        if cast.bf16 is None
        else [Step(Kind.OFFLINE, cast.bf16, (cast.largest,)), Step(Kind.PRODUCTS, cast.bf16, (cast.largest,))]
    ),
    "pipeline": lambda cast: [Step(Kind.ENGINE, cast.offline, (cast.largest,)), Step(Kind.PIPELINE, cast.offline)],
    "memory": lambda cast: [Step(Kind.MEMORY, cast.offline)],
}


def steps_for(bars: Iterable[str], cast: Cast) -> list[Step]:
    """Each kind and subject once, with the batches of all bars that need it, the subjects of a kind in a row."""
    batches: dict[tuple[Kind, str], set[int]] = {}
    for bar in bars:
        for step in _NEEDS[bar](cast):
            batches.setdefault((step.kind, step.subject), set()).update(step.batches)
    order = list(Kind)
    steps = [Step(kind, subject, tuple(sorted(sizes))) for (kind, subject), sizes in batches.items()]
    return sorted(steps, key=lambda step: order.index(step.kind))
