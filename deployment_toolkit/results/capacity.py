"""Results of capacity measurements: requests that arrive at random at a given rate, whatever the server does.

A capacity row is one run of the load generator: a mapping from the CSV header of each of ``CAPACITY_COLUMNS`` to its
value. Latencies are microseconds from the moment at which a request was due to the moment at which its answer was
there; tables for people show milliseconds. The *capacity* for requests of some rows and a latency budget is the highest
rate at which the load generator found the 99th percentile of the latencies within the budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.results.performance import (
    AVERAGE,
    DISTURBANCE_COLUMNS,
    DISTURBED,
    DISTURBED_MARK,
    DISTURBED_NOTE,
    LATENCY_STATISTICS,
    P99,
    REFUSED,
    THROUGHPUT,
    US_PER_MS,
    ResultColumn,
    Unit,
    markdown_table,
)
from deployment_toolkit.results.tables import read_csv, write_csv

CapacityRow = Mapping[str, Any]
CapacityKey = tuple[int, float]  # rows of a request, latency budget in microseconds

ROWS = "Rows"
BUDGET = "Latency Budget"
OFFERED = "Offered Requests/Second"
ANSWERED = "Requests/Second"
REQUESTS = "Requests"
LATE_SENDS = "Late Sends"
CLIENT_CORES = "Client Cores"
SERVER_CORES = "Server Cores"
VALID = "Valid"
CAPACITY = "Capacity"

LATE_SEND_US = 1000.0  # a request that is sent later than this after it was due counts as a late send
MOST_LATE_SENDS = 0.01  # above this share of late sends the client may have been the limit, not the server
SIZING_LOAD = 0.6  # share of its capacity at which a server is planned to run

_LATE_MARK, _INVALID_MARK = "§", "✗"
_LATE_NOTE = (
    f"{_LATE_MARK} More than {MOST_LATE_SENDS:.0%} of the requests were sent over {LATE_SEND_US / US_PER_MS:g} ms late:"
    " the client may have been the limit, not the server. Their latencies count from when they were due."
)
_INVALID_NOTE = f"{_INVALID_MARK} LoadGen calls this run invalid: p99 is not safely within the budget."


@dataclass(frozen=True)
class NumberColumn(ResultColumn):
    """A column of a number that may be unknown: None, an empty cell."""

    decimals: int = 2

    def parse(self, text: str) -> float | None:
        """Value of a CSV cell. Raises ValueError."""
        return float(text) if text else None

    def cell(self, value: Any) -> str:
        """CSV cell of a value."""
        return "" if value is None else f"{value:.{self.decimals}f}".rstrip("0").rstrip(".")

    def text(self, value: Any) -> str:
        """Text of a value in a table for people."""
        return "" if value is None else f"{value:.{self.decimals}f}"


CAPACITY_COLUMNS = (
    ResultColumn(ROWS, Unit.COUNT),
    ResultColumn(BUDGET, Unit.LATENCY_US),
    ResultColumn(OFFERED, Unit.PER_SECOND),
    ResultColumn(ANSWERED, Unit.PER_SECOND),
    ResultColumn(THROUGHPUT, Unit.PER_SECOND),
    *(ResultColumn(name, Unit.LATENCY_US) for name in LATENCY_STATISTICS),
    ResultColumn(REQUESTS, Unit.COUNT),
    NumberColumn(LATE_SENDS, Unit.NUMBER, decimals=4),
    ResultColumn(REFUSED, Unit.PER_SECOND),
    NumberColumn(CLIENT_CORES, Unit.NUMBER),
    NumberColumn(SERVER_CORES, Unit.NUMBER),
    ResultColumn(VALID, Unit.FLAG),
    ResultColumn(CAPACITY, Unit.FLAG),
    *DISTURBANCE_COLUMNS,
)
_LACKED = {column.name for column in DISTURBANCE_COLUMNS}  # by runs of before


def in_order(rows: Iterable[CapacityRow]) -> list[CapacityRow]:
    """Rows sorted by rows of a request, offered rate, latency budget."""
    return sorted(rows, key=lambda row: (row[ROWS], row[OFFERED], row[BUDGET]))


def marked(rows: Iterable[CapacityRow]) -> list[CapacityRow]:
    """Rows, sorted, with ``Capacity`` set: for each rows of a request and budget, the valid run of the highest rate."""
    found = in_order(rows)
    best: dict[CapacityKey, int] = {}
    for index, row in enumerate(found):
        if row[VALID]:
            best[row[ROWS], row[BUDGET]] = index
    return [{**row, CAPACITY: index in best.values()} for index, row in enumerate(found)]


def capacities(rows: Iterable[CapacityRow]) -> dict[CapacityKey, CapacityRow]:
    """The row of the highest rate that holds, by rows of a request and latency budget in microseconds; without those
    pairs for which no rate holds."""
    return {(row[ROWS], row[BUDGET]): row for row in in_order(rows) if row[CAPACITY]}


def sizing(inferences_per_second: float, row: CapacityRow, load: float = SIZING_LOAD) -> int:
    """Servers of the measured size for so many rows per second, each at the share ``load`` of its capacity, whose row
    this is. It is assumed that n servers take n times as much. Raises UsageError for a load that is not above 0 and at
    most 1."""
    if not 0 < load <= 1:
        raise UsageError(f"the load of a server has to be above 0 and at most 1, not {load:g}")
    return max(1, math.ceil(inferences_per_second / (float(row[THROUGHPUT]) * load)))


def write_capacity(path: Path, rows: Sequence[CapacityRow]) -> None:
    """Writes capacity rows, at least one, as CSV, sorted; the file is replaced atomically."""
    write_csv(path, [capacity_cells(row) for row in in_order(rows)])


def capacity_cells(row: CapacityRow) -> dict[str, str]:
    """Cells of a capacity row in a CSV, by column."""
    known = {**dict.fromkeys(_LACKED), **row}
    return {column.name: column.cell(known[column.name]) for column in CAPACITY_COLUMNS}


def read_capacity(path: Path) -> list[CapacityRow]:
    """Reads the rows of a capacity CSV, sorted. Raises DataError if there is no such file or a column or a value is
    missing or unreadable."""
    return in_order(_parse(line, f"{path}, line {number}") for number, line in enumerate(read_csv(path), start=2))


def read_capacity_summary(path: Path, key: str) -> dict[str, list[CapacityRow]]:
    """Reads a capacity CSV with further columns: the rows by the values of the column ``key``, each list sorted.
    Raises what ``read_capacity`` raises."""
    groups: dict[str, list[CapacityRow]] = {}
    for number, line in enumerate(read_csv(path), start=2):
        groups.setdefault(line.get(key, ""), []).append(_parse(line, f"{path}, line {number}"))
    return {name: in_order(rows) for name, rows in groups.items()}


def read_capacity_with_parameters(path: Path) -> list[tuple[dict[str, str], CapacityRow]]:
    """Reads a capacity CSV with further columns: each row with the text of these, in the order of the file. Raises
    what ``read_capacity`` raises."""
    own = {column.name for column in CAPACITY_COLUMNS}
    return [
        ({name: text for name, text in line.items() if name not in own}, _parse(line, f"{path}, line {number}"))
        for number, line in enumerate(read_csv(path), start=2)
    ]


def client_was_late(row: CapacityRow) -> bool:
    """True if so many requests were sent late that the client may have been the limit."""
    return bool(row[LATE_SENDS] > MOST_LATE_SENDS)


def capacity_markdown(rows: Sequence[CapacityRow]) -> str:
    """Tables for people, latencies in milliseconds: the rate that holds for each budget and rows of a request, then
    every run; what LoadGen calls invalid and what the client sent late is marked and explained."""
    held = capacities(rows)
    summary = [_summary_line(key, held.get(key)) for key in sorted({(row[ROWS], row[BUDGET]) for row in rows})]
    table = []
    shown = [column for column in CAPACITY_COLUMNS if column.name not in _LACKED]
    for row in in_order(rows):
        texts = {column.title: column.text(row[column.name]) for column in shown}
        if row.get(DISTURBED):
            texts[OFFERED] += f" {DISTURBED_MARK}"
        if not row[VALID]:
            texts[VALID] += f" {_INVALID_MARK}"
        if client_was_late(row):
            texts[LATE_SENDS] += f" {_LATE_MARK}"
        table.append(texts)
    notes = []
    if not all(row[VALID] for row in rows):
        notes.append(_INVALID_NOTE)
    if any(map(client_was_late, rows)):
        notes.append(_LATE_NOTE)
    if any(row.get(DISTURBED) for row in rows):
        notes.append(DISTURBED_NOTE)
    return "\n".join([markdown_table(summary), markdown_table(table), *notes])


def _summary_line(key: CapacityKey, row: CapacityRow | None) -> dict[str, str]:
    rows, budget_us = key
    return {
        ROWS: str(rows),
        f"{BUDGET} (ms)": f"{budget_us / US_PER_MS:g}",
        "capacity (requests/s)": "none" if row is None else f"{row[OFFERED]:,.0f}",
        "capacity (inferences/s)": "" if row is None else f"{row[THROUGHPUT]:,.0f}",
        f"{P99} (ms)": "" if row is None else f"{row[P99] / US_PER_MS:.2f}",
        f"{AVERAGE} (ms)": "" if row is None else f"{row[AVERAGE] / US_PER_MS:.2f}",
        LATE_SENDS: "" if row is None else f"{row[LATE_SENDS]:.2%}",
    }


def _parse(line: Mapping[str, str], where: str) -> CapacityRow:
    try:
        known = {**dict.fromkeys(_LACKED, ""), **line}
        row = {column.name: column.parse(known[column.name]) for column in CAPACITY_COLUMNS}
        if row[LATE_SENDS] is None:
            raise ValueError(f"no {LATE_SENDS}")
        return row
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{where} is not a capacity result ({error!r}): measure again") from error
