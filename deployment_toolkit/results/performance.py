"""Tables of results: one description of the performance columns for CSV, markdown and plots, and exporters from rows to
text.

A performance row is a mapping from the CSV header of each of ``PERFORMANCE_COLUMNS`` to its value; latencies are
microseconds in rows and CSV files, milliseconds in tables and plots for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.core import Mnemonic
from deployment_toolkit.errors import DataError
from deployment_toolkit.results.tables import read_csv, write_csv

PerformanceRow = Mapping[str, Any]

US_PER_MS = 1000.0
UNSETTLED_MARK = "†"
UNSETTLED_NOTE = f"{UNSETTLED_MARK} This measurement never settled: the values are those of its last, longest attempt."
DISTURBED_MARK = "‡"
DISTURBED_NOTE = (
    f"{DISTURBED_MARK} This measurement was disturbed: others used the cores, or the CPU was slower than else."
)


class Unit(Mnemonic):
    """Unit of a column."""

    COUNT = "count"
    PER_SECOND = "1/s"
    LATENCY_US = "us"
    FLAG = "flag"
    CORES = "cores"
    MILLISECONDS = "ms"
    NUMBERS = "numbers"  # several, separated by blanks
    NUMBER = "number"


@dataclass(frozen=True)
class ResultColumn:
    """A column of the performance tables; ``name`` is its CSV header. In a column that ``may_lack`` values, an unknown
    one is None, and an empty cell."""

    name: str
    unit: Unit
    may_lack: bool = False

    @property
    def title(self) -> str:
        """Header of a table for people."""
        return f"{self.name} (ms)" if self.unit is Unit.LATENCY_US else self.name

    def parse(self, text: str) -> Any:
        """Value of a CSV cell. Raises ValueError, or KeyError for a flag."""
        if self.may_lack and not text:
            return None
        if self.unit is Unit.FLAG:
            return {"yes": True, "no": False}[text]
        if self.unit is Unit.NUMBERS:
            return tuple(map(float, text.split()))
        return int(text) if self.unit is Unit.COUNT else float(text)

    def cell(self, value: Any) -> str:
        """CSV cell of a value."""
        if value is None:
            return ""
        if self.unit is Unit.FLAG:
            return "yes" if value else "no"
        if self.unit is Unit.NUMBERS:
            return " ".join(map(_short, value))
        return str(value) if self.unit is Unit.COUNT else _short(value)

    def text(self, value: Any) -> str:
        """Text of a value in a table for people."""
        if self.unit is Unit.LATENCY_US:
            return f"{value / US_PER_MS:.2f}"
        return f"{value:.2f}" if self.unit is Unit.PER_SECOND else self.cell(value)


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


BATCH = "Batch"
CONCURRENCY = "Concurrency"
THROUGHPUT = "Inferences/Second"
P99 = "p99 latency"
AVERAGE = "avg latency"
SETTLED = "Settled"
REFUSED = "Refused"  # inferences per second that the server refused, because its queue has limits
# Cores that other programs used, and that the host of this virtual machine gave to others; milliseconds of a fixed bit
# of work before the measurement and after it (deployment_toolkit.disturbance).
OTHER_CORES = "Other Cores"
STEAL_CORES = "Steal Cores"
SPEED_BEFORE = "CPU Speed Before"
SPEED_AFTER = "CPU Speed After"
DISTURBED = "Disturbed"
# Inferences per second, and average latency, of each of the repeated windows of the attempt that the row is from.
WINDOW_RATES = "Window Rates"
WINDOW_LATENCIES = "Window Latencies"

# In the order of a request's way; their sum is the average latency.
LATENCY_PARTS = (
    "Client Send",
    "Network+Server Send/Recv",
    "Server Queue",
    "Server Compute Input",
    "Server Compute Infer",
    "Server Compute Output",
    "Client Recv",
)
LATENCY_STATISTICS = ("p50 latency", "p90 latency", "p95 latency", P99, AVERAGE)

DISTURBANCE_COLUMNS = (
    ResultColumn(OTHER_CORES, Unit.CORES, may_lack=True),
    ResultColumn(STEAL_CORES, Unit.CORES, may_lack=True),
    ResultColumn(SPEED_BEFORE, Unit.MILLISECONDS, may_lack=True),
    ResultColumn(SPEED_AFTER, Unit.MILLISECONDS, may_lack=True),
    ResultColumn(DISTURBED, Unit.FLAG, may_lack=True),
)

PERFORMANCE_COLUMNS = (
    ResultColumn(BATCH, Unit.COUNT),
    ResultColumn(CONCURRENCY, Unit.COUNT),
    ResultColumn(THROUGHPUT, Unit.PER_SECOND),
    *(ResultColumn(name, Unit.LATENCY_US) for name in (*LATENCY_PARTS, *LATENCY_STATISTICS)),
    ResultColumn(SETTLED, Unit.FLAG),
    ResultColumn(REFUSED, Unit.PER_SECOND),
    *DISTURBANCE_COLUMNS,
    ResultColumn(WINDOW_RATES, Unit.NUMBERS),
    ResultColumn(WINDOW_LATENCIES, Unit.NUMBERS),
)
# Marks, what they are made of, and what comparisons are made of.
_NOT_FOR_PEOPLE = (SETTLED, *(column.name for column in DISTURBANCE_COLUMNS), WINDOW_RATES, WINDOW_LATENCIES)

# Cells of columns that files of other tools, and of older versions, lack.
OF_OTHER_TOOLS = {
    SETTLED: "yes",
    REFUSED: "0",
    **{column.name: "" for column in DISTURBANCE_COLUMNS},
    WINDOW_RATES: "",
    WINDOW_LATENCIES: "",
}


def in_order(rows: Iterable[PerformanceRow]) -> list[PerformanceRow]:
    """Rows sorted by batch, then concurrency."""
    return sorted(rows, key=lambda row: (row[BATCH], row[CONCURRENCY]))


def write_performance(path: Path, rows: Sequence[PerformanceRow]) -> None:
    """Writes performance rows, at least one, as CSV, sorted; the file is replaced atomically."""
    write_csv(path, [performance_cells(row) for row in in_order(rows)])


def performance_cells(row: PerformanceRow) -> dict[str, str]:
    """Cells of a performance row in a CSV, by column."""
    unknown = dict.fromkeys(column.name for column in DISTURBANCE_COLUMNS)
    told = {REFUSED: 0.0, **unknown, WINDOW_RATES: (), WINDOW_LATENCIES: (), **row}
    return {column.name: column.cell(told[column.name]) for column in PERFORMANCE_COLUMNS}


def read_performance(path: Path) -> list[PerformanceRow]:
    """Reads the rows of a performance CSV, sorted. Without a column ``Settled``, as in files of other tools, every row
    counts as settled, without ``Refused`` as one of which nothing was refused; without the columns of disturbance these
    are None, without ``Window Rates`` the windows are unknown. Raises DataError if there is no such file or a column or
    a value is missing or unreadable."""
    return in_order(_parse(line, f"{path}, line {number}") for number, line in enumerate(read_csv(path), start=2))


def read_with_parameters(path: Path) -> list[tuple[dict[str, str], PerformanceRow]]:
    """Reads a performance CSV with further columns: each row with the text of these, in the order of the file. Raises
    what ``read_performance`` raises."""
    own = {column.name for column in PERFORMANCE_COLUMNS}
    return [
        ({name: text for name, text in line.items() if name not in own}, _parse(line, f"{path}, line {number}"))
        for number, line in enumerate(read_csv(path), start=2)
    ]


def performance_row(line: Mapping[str, str]) -> PerformanceRow:
    """Row of a CSV's line, as ``read_performance`` reads it. Raises KeyError, ValueError, TypeError or OverflowError if
    it is none."""
    row = {**OF_OTHER_TOOLS, **line}
    return {column.name: column.parse(row[column.name]) for column in PERFORMANCE_COLUMNS}


def _parse(line: Mapping[str, str], where: str) -> PerformanceRow:
    try:
        return performance_row(line)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{where} is not a performance result ({error!r}): measure again") from error


def markdown_table(rows: Sequence[Mapping[str, object]]) -> str:
    """A markdown table with the keys of the first row as header; columns of numbers are aligned to the right. Empty
    for no rows."""
    if not rows:
        return ""
    names = list(rows[0])
    cells = [["" if row.get(name) is None else str(row[name]).replace("|", "\\|") for name in names] for row in rows]
    right = [all(_is_number(line[index]) for line in cells) for index in range(len(names))]
    widths = [max(len(names[index]), *(len(line[index]) for line in cells)) for index in range(len(names))]

    def line_of(values: Sequence[str]) -> str:
        padded = [
            value.rjust(width) if to_right else value.ljust(width)
            for value, width, to_right in zip(values, widths, right, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        f"{'-' * (width + 1)}:" if to_right else "-" * (width + 2)
        for width, to_right in zip(widths, right, strict=True)
    ]
    return "\n".join([line_of(names), f"|{'|'.join(rule)}|", *map(line_of, cells)]) + "\n"


def performance_markdown(rows: Sequence[PerformanceRow]) -> str:
    """Performance table for people, latencies in milliseconds; rows that never settled, or were disturbed, are marked
    and explained."""
    table = []
    shown = _shown(rows)
    for row in ({REFUSED: 0.0, **row} for row in in_order(rows)):
        texts = {column.title: column.text(row[column.name]) for column in shown}
        marks = (UNSETTLED_MARK if not row[SETTLED] else "") + (DISTURBED_MARK if row.get(DISTURBED) else "")
        texts[THROUGHPUT] += f" {marks}" if marks else ""
        table.append(texts)
    notes = [UNSETTLED_NOTE] if not all(row[SETTLED] for row in rows) else []
    notes += [DISTURBED_NOTE] if any(row.get(DISTURBED) for row in rows) else []
    return markdown_table(table) + "".join(f"\n{note}\n" for note in notes)


def _shown(rows: Sequence[PerformanceRow]) -> list[ResultColumn]:
    """Columns of a table for people; what was refused, if anything was, beside what was answered."""
    by_name = {column.name: column for column in PERFORMANCE_COLUMNS if column.name not in _NOT_FOR_PEOPLE}
    refused = by_name.pop(REFUSED)
    columns = list(by_name.values())
    if any(row.get(REFUSED) for row in rows):
        columns.insert(columns.index(by_name[THROUGHPUT]) + 1, refused)
    return columns


def refused_share(row: PerformanceRow) -> float:
    """Share of the inferences asked for that the server refused."""
    refused = float(row.get(REFUSED, 0.0))
    return refused / (refused + float(row[THROUGHPUT])) if refused else 0.0


def peak(rows: Sequence[PerformanceRow]) -> PerformanceRow | None:
    """The row of the highest throughput; None without rows."""
    return max(rows, key=lambda row: float(row[THROUGHPUT])) if rows else None


def headline(offline: Sequence[PerformanceRow], online: Sequence[PerformanceRow]) -> dict[str, str]:
    """The latency of a single row and the peaks of throughput as columns of a summary, empty where not measured, with a
    mark where the measurement was disturbed."""
    single = next((row for row in offline if row[BATCH] == 1), None)
    columns = {"offline, batch 1: p99 (ms)": "" if single is None else f"{single[P99] / US_PER_MS:.2f}{_mark(single)}"}
    for mode, best, point in (("offline", peak(offline), BATCH), ("online", peak(online), CONCURRENCY)):
        columns[f"{mode} peak (inferences/s)"] = "" if best is None else f"{best[THROUGHPUT]:,.0f}{_mark(best)}"
        columns[f"at {point.lower()}"] = "" if best is None else str(best[point])
    return columns


def _mark(row: PerformanceRow) -> str:
    return f" {DISTURBED_MARK}" if row.get(DISTURBED) else ""


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip(f" {UNSETTLED_MARK}{DISTURBED_MARK}").replace(",", "").strip() or 0)
    except ValueError:
        return False
    return True
