"""Result files of the bars: all values as CSV, the bars as markdown, and two pictures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.bars.bar import BarOutcome, Cast, Quantity, Samples
from benchmarks.bars.cpu_share import GROUPS
from benchmarks.bars.pictures import draw_bars, draw_shares
from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.files.atomic import replace_when_complete, write_text
from deployment_toolkit.results.performance import UNSETTLED_MARK, UNSETTLED_NOTE
from deployment_toolkit.results.tables import write_csv

CSV_FILE, TABLE_FILE, BARS_PICTURE, SHARES_PICTURE = "bars.csv", "bars.md", "bars.png", "cpu_shares.png"

_MIB = 2**20
_NOTES = """
- *Served*: the embedded tritonserver, deployed by `model-navigator triton-config-model` and measured by perf_analyzer,
  client and server on the same cores; offline one request at a time through shared memory, online over HTTP with
  dynamic batching.
- *In process*: the same file in the same runtime, without a server, on rows that are in memory already.
- *Matrix products alone*: operands, weights and results in bfloat16, the faster of OpenVINO and TensorFlow (both
  multiply with oneDNN).
- *Memory*: proportional set size of the server and its children after each instance has answered the largest batch at
  the same time as the others. First instance: 1 instance less a server without models; a further one: half of what 3
  instances have more than 1.
- *Pipeline*: `run_inference_on_fw.py` with its dump, then `calculate_metrics.py`; the rows that a long run has more
  than a short one over the time that it takes more, so that starting and loading, shown apart, don't count.
"""


@dataclass(frozen=True)
class Provenance:
    """Place, time, command and subject of the measurement."""

    machine: str
    date: str
    command: str
    versions: Mapping[str, str]
    rounds: int

    @property
    def line(self) -> str:
        """Line under a picture's title."""
        return f"{self.machine}; {self.date}; medians of {self.rounds} interleaved rounds, whiskers from worst to best"


def write_results(
    folder: Path, outcomes: Sequence[BarOutcome], samples: Samples, cast: Cast, provenance: Provenance
) -> None:
    """Writes the four files; the picture of CPU shares only if there are any. Each is replaced atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    if samples.all:
        write_csv(folder / CSV_FILE, [_plain(asdict(sample)) for sample in samples.all])
    write_text(folder / TABLE_FILE, page(outcomes, samples, cast, provenance))
    _write_png(folder / BARS_PICTURE, draw_bars(outcomes, provenance.line))
    shares = cpu_shares(samples, cast)
    if shares:
        _write_png(folder / SHARES_PICTURE, draw_shares(shares, provenance.line))


def page(outcomes: Sequence[BarOutcome], samples: Samples, cast: Cast, provenance: Provenance) -> str:
    """Markdown page of the bars."""
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    head = [
        "# Bars",
        "",
        f"{provenance.machine}; {provenance.date}; {versions}.",
        f"Medians of {provenance.rounds} interleaved rounds. Made by `{provenance.command}`.",
        "",
    ]
    return "\n".join(
        [*head, bars_table(outcomes), "", values_table(samples), _NOTES.rstrip(), "", *_shares(samples, cast)]
    )


def bars_table(outcomes: Sequence[BarOutcome]) -> str:
    """Table with a row per bar: goal, median, worst and best round, and a mark if it is met."""
    lines = ["| bar | goal | median | min … max | met |", "| --- | ---: | ---: | ---: | --- |"]
    for item in outcomes:
        goal = f"{'≤' if item.bar.at_most else '≥'} {item.bar.goal:g}"
        if item.failure or item.skipped:
            why = f"failed: {item.failure}" if item.failure else f"skipped: {item.skipped}"
            lines.append(f"| {item.what} | {goal} | | | {why.replace('|', '/')} |")
            continue
        low, high = min(item.ratios), max(item.ratios)
        met = "yes" if item.met else ("no" if item.holds else "no: p99 is worse")
        lines.append(f"| {item.what} | {goal} | {item.median:.3g} | {low:.3g} … {high:.3g} | {met} |")
    return "\n".join(lines)


def values_table(samples: Samples) -> str:
    """Table of the values in the bars' ratios: median and range of each."""
    lines = ["| what | of | batch | concurrency | median | min … max |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    shown: dict[tuple[Quantity, str, int, int], list[float]] = {}
    unsettled = set()
    for sample in samples.all:
        if sample.round and sample.quantity is not Quantity.CPU:
            key = (sample.quantity, sample.subject, sample.batch, sample.concurrency)
            shown.setdefault(key, []).append(sample.value)
            unsettled |= set() if sample.settled else {key}
    order = list(Quantity)
    for point in sorted(shown, key=lambda point: (order.index(point[0]), *point[1:])):
        values, title, scale = shown[point], str(point[0]), 1.0
        if point[0] is Quantity.MEMORY:
            title, scale = "memory, PSS in MiB (concurrency: instances)", _MIB
        mark = f" {UNSETTLED_MARK}" if point in unsettled else ""
        low, median, high = (function(values) / scale for function in (min, statistics.median, max))
        text = f"{_number(median)}{mark} | {_number(low)} … {_number(high)}"
        lines.append(f"| {title} | {' | '.join(map(str, point[1:]))} | {text} |")
    return "\n".join([*lines, *(["", UNSETTLED_NOTE] if unsettled else [])])


def cpu_shares(samples: Samples, cast: Cast) -> dict[str, dict[str, float]]:
    """Median cores of each group by subject, for the subjects that have CPU samples."""
    found = {}
    for subject in dict.fromkeys([cast.baseline, cast.online]):
        try:
            found[subject] = {
                group: statistics.median(samples.series(Quantity.CPU, subject, process=group)) for group in GROUPS
            }
        except PerformanceError:
            continue
    return found


def _shares(samples: Samples, cast: Cast) -> list[str]:
    shares = cpu_shares(samples, cast)
    if not shares:
        return []
    lines = [
        f"Cores that each had, online, {cast.concurrency} × {cast.online_batch} rows:",
        "",
        f"| | {' | '.join(GROUPS)} |",
        f"| --- |{' ---: |' * len(GROUPS)}",
    ]
    lines += [
        f"| {subject} | {' | '.join(f'{cores[group]:.2f}' for group in GROUPS)} |" for subject, cores in shares.items()
    ]
    return [*lines, ""]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def _plain(row: dict[str, object]) -> dict[str, object]:
    return {**row, "quantity": str(row["quantity"]), "settled": "yes" if row["settled"] else "no"}


def _write_png(path: Path, png: bytes) -> None:
    with replace_when_complete(path) as beside:
        beside.write_bytes(png)
