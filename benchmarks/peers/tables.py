"""Tables of the comparison, as markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.peers.deployment import PerfPoints
from benchmarks.peers.results import (
    OURS,
    OWN,
    Cell,
    Failure,
    Run,
    Value,
    Values,
    first_in,
    ratio_to_best_peer,
    values_of,
)
from deployment_toolkit.results.performance import markdown_table

LOST = "✗ lost"


@dataclass(frozen=True)
class SystemNote:
    """Note about a system: its release, its settings, its encoding of rows."""

    title: str
    version: str
    settings: str
    payload: str


@dataclass(frozen=True)
class PeerComparison:
    """All measurements. ``models`` are the model files by their names in ``runs``; ``perf`` has perf_analyzer's results
    of this deployment, by model and system; ``skipped`` has, by model, the reason why this host can't run it."""

    provenance: Mapping[str, str]
    models: Mapping[str, str]
    notes: Sequence[SystemNote]
    runs: Sequence[Run]
    failures: Sequence[Failure]
    perf: Mapping[tuple[str, str], PerfPoints]
    skipped: Mapping[str, str] = field(default_factory=dict)


def comparison_markdown(comparison: PeerComparison) -> str:
    """Whole report: the machine, the systems, and a table per model file."""
    parts = ["\n".join(f"- {name}: {value}" for name, value in comparison.provenance.items())]
    systems = [
        {"system": note.title, "release": note.version, "settings": note.settings, "payload": note.payload}
        for note in comparison.notes
    ]
    parts.append(markdown_table(systems).rstrip())
    for model, description in comparison.models.items():
        parts.append(_model_markdown(comparison, model, description))
    parts += [f"**{model.replace(':', ' ')}**: skipped, {reason}" for model, reason in comparison.skipped.items()]
    return "\n\n".join(parts) + "\n"


def _model_markdown(comparison: PeerComparison, model: str, description: str) -> str:
    values = values_of(comparison.runs, model)
    titles = [note.title for note in comparison.notes if note.title in values]
    perf = {title: comparison.perf.get((model, title), {}) for title in titles}
    parts = [f"**{description}**: rows per second (p50 / p99 in ms)"]
    cells = sorted({cell for system in values.values() for cell in system})
    if cells:
        parts.append(markdown_table([_line(values, titles, cell, perf) for cell in cells]).rstrip())
        parts.append(markdown_table([_facts(comparison.runs, model, title) for title in titles]).rstrip())
        parts.append("\n".join(_verdict(values, cells, own) for own in OWN if own in values))
    failed = [_failed(item) for item in comparison.failures if item.model == model]
    if failed:
        parts.append("Not measured:\n\n" + "\n".join(failed))
    return "\n\n".join(parts)


def _failed(failure: Failure) -> str:
    attempt = "" if failure.attempt is None else f", pass {failure.attempt}"
    return f"- {failure.system}{attempt}: {failure.reason}"


def _line(values: Values, titles: Sequence[str], cell: Cell, perf: Mapping[str, PerfPoints]) -> dict[str, str]:
    first = first_in(values, cell)
    line = {"requests × rows": str(cell)}
    for title in titles:
        value = values[title].get(cell)
        line[title] = "" if value is None else _text(value, title == first)
        if title in OWN:
            ratio = ratio_to_best_peer(values, cell, title)
            if ratio is not None and ratio < 1.0:
                line[title] += f" {LOST}"
            point = perf[title].get((cell.rows, cell.concurrency))
            if perf[title]:
                line[f"{title}, perf_analyzer"] = (
                    "" if point is None else f"{point.rows_per_s:,.0f} ({point.p99_ms:.2f})"
                )
            line["÷ best peer" + title.removeprefix(OURS)] = "" if ratio is None else f"{ratio:.2f}"
    return line


def _text(value: Value, first: bool) -> str:
    rate = f"**{value.rows_per_s:,.0f}**" if first else f"{value.rows_per_s:,.0f}"
    errors = f", {value.errors} errors" if value.errors else ""
    return f"{rate} ({_ms(value.p50_ms)} / {_ms(value.p99_ms)}{errors})"


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _facts(runs: Sequence[Run], model: str, title: str) -> dict[str, str]:
    own = [run for run in runs if (run.model, run.system) == (model, title)]
    smallest = min(own, key=lambda run: run.cell).cell
    at_start = statistics.median(run.memory_mib for run in own if run.cell == smallest)
    return {
        "system": title,
        "memory at the start (MiB)": f"{at_start:,.0f}",
        "memory at most (MiB)": f"{max(run.memory_mib for run in own):,.0f}",
        "requests": f"{sum(run.requests for run in own):,}",
        "errors": str(sum(run.errors for run in own)),
        "largest difference": f"{max(run.largest_difference for run in own):.1e}",
    }


def _verdict(values: Values, cells: Sequence[Cell], own: str) -> str:
    ratios = {cell: ratio for cell in cells if (ratio := ratio_to_best_peer(values, cell, own)) is not None}
    lost = [f"{cell} ({ratio:.2f} of the best peer's rows)" for cell, ratio in ratios.items() if ratio < 1.0]
    said = f"- {own}: faster than every peer in {len(ratios) - len(lost)} of {len(ratios)} cells."
    return f"{said} Lost: {', '.join(lost)}." if lost else said
