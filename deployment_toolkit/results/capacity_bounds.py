"""Whether the capacity that was found is the server's, or only a rate below it."""

from __future__ import annotations

from collections.abc import Iterable

from deployment_toolkit.results.capacity import BUDGET, OFFERED, ROWS, VALID, CapacityRow, client_was_late
from deployment_toolkit.results.performance import DISTURBED, P99

# A search ends when the rate that holds and the one that fails differ by 5 %; LoadGen's schedules miss a rate by 1 %.
_CLOSE = 1.08


def failing_above(rows: Iterable[CapacityRow], held: CapacityRow) -> CapacityRow | None:
    """Of ``rows`` the run of the lowest rate above ``held`` whose requests have as many rows and that misses the budget
    of ``held``; None if there is none. What others disturbed does not count: they may have made it miss."""
    missed = [
        row
        for row in rows
        if row[ROWS] == held[ROWS]
        and row[OFFERED] > held[OFFERED]
        and not row.get(DISTURBED)
        and (row[P99] > held[BUDGET] or (row[BUDGET] == held[BUDGET] and not row[VALID]))
    ]
    return min(missed, key=lambda row: float(row[OFFERED]), default=None)


def is_lower_bound(rows: Iterable[CapacityRow], held: CapacityRow) -> bool:
    """True if the server may do more than the rate ``held``: no failing rate close above it was measured, since the
    time was over, or the client sent late there and may have been the limit."""
    failing = failing_above(rows, held)
    if failing is None or failing[OFFERED] > held[OFFERED] * _CLOSE:
        return True
    return client_was_late(held) or client_was_late(failing)
