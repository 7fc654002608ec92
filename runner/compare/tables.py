"""Tables of a comparison: the same cells in ``comparison.csv`` and in ``comparison.md``."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from deployment_toolkit.results.performance import headline
from runner.compare.alignment import Together
from runner.compare.capacity import CAPACITY
from runner.compare.correctness import CorrectnessLine
from runner.compare.intervals import Interval
from runner.compare.lines import Line, LineVerdict
from runner.kept_run import KeptRun

UNKNOWN = "-"
_POINTS = ("batch", "concurrency", "rows", "p99 within", "offered requests/s")


def line_cells(line: Line, base_name: str) -> dict[str, str]:
    """Cells of a line, by column."""
    point = dict(line.point)
    return {
        "scenario": line.scenario,
        "experiment": line.experiment,
        **{name: point.get(name, "") for name in _POINTS},
        "measure": line.measure,
        "base": base_name,
        "run": line.run,
        "base value": figure(line.base),
        "value": figure(line.value),
        "difference": percentage(line.ratio),
        "95 % interval": interval_text(line.interval),
        "verdict": str(line.verdict),
        "notes": "; ".join(line.notes),
    }


def correctness_cells(line: CorrectnessLine, base_name: str) -> dict[str, str]:
    """Cells of a line of correctness, in the same columns."""
    empty = dict.fromkeys((*_POINTS, "difference", "95 % interval", "notes"), "")
    cells = {
        "scenario": "correctness",
        "experiment": line.experiment,
        **empty,
        "measure": f"{line.dump}: {line.measure}",
        "base": base_name,
        "run": line.run,
        "base value": line.base,
        "value": line.value,
        "verdict": line.verdict,
    }
    order = ("scenario", "experiment", *_POINTS, "measure", "base", "run", "base value", "value")
    return {name: cells[name] for name in (*order, "difference", "95 % interval", "verdict", "notes")}


def figure(value: float) -> str:
    """A figure with as many digits as mean something."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def percentage(ratio: float) -> str:
    """Difference of a ratio from 1, with its sign."""
    return f"{round(100 * (ratio - 1), 1) + 0.0:+.1f} %" if ratio != float("inf") else UNKNOWN  # never -0.0


def interval_text(interval: Interval | None) -> str:
    """Bounds of a difference."""
    return UNKNOWN if interval is None else f"{percentage(interval.low)} to {percentage(interval.high)}"


def shown(rows: Iterable[Mapping[str, str]], dropped: Sequence[str]) -> list[dict[str, str]]:
    """Rows without some columns, and without those that are empty in every row."""
    kept = list(rows)
    empty = {name for name in (kept[0] if kept else ()) if not any(row[name] for row in kept)}
    return [{name: text for name, text in row.items() if name not in {*dropped, *empty}} for row in kept]


def verdict_counts(lines: Sequence[Line]) -> list[dict[str, str]]:
    """A row for each run, scenario and experiment: the median difference of throughput, how many figures got better or
    worse, and, if there are any, how many were disturbed."""
    groups: dict[tuple[str, str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.run, line.scenario, line.experiment), []).append(line)
    rows = []
    for (run, scenario, experiment), group in groups.items():
        rates = [line.ratio for line in group if line.is_rate]
        counts = {str(verdict): str(sum(line.verdict is verdict for line in group)) for verdict in LineVerdict}
        told = {"run": run, "scenario": scenario, "experiment": experiment, "figures": str(len(group))}
        median = percentage(statistics.median(rates)) if rates else UNKNOWN
        disturbed = sum(line.is_disturbed for line in group)
        told |= {"throughput, median difference": median, **counts, "disturbed": str(disturbed or "")}
        rows.append(told)
    return shown(rows, ())


def in_words(lines: Sequence[Line], names: Sequence[str]) -> list[str]:
    """A sentence for each run after the first."""
    told = []
    for name in names[1:]:
        own = [line for line in lines if line.run == name]
        rates = [line.ratio for line in own if line.is_rate and line.scenario != CAPACITY]
        if not own:
            told.append(f"{name} has no point in common with {names[0]}.")
            continue
        counts = {verdict: sum(line.verdict is verdict for line in own) for verdict in LineVerdict}
        judged = ", ".join(f"{counts[verdict]} {verdict}" for verdict in LineVerdict if verdict != LineVerdict.UNKNOWN)
        throughput = "no throughput in common"
        if rates:
            median, ends = percentage(statistics.median(rates)), f"{percentage(min(rates))} to {percentage(max(rates))}"
            throughput = f"throughput {median} (median of {len(rates)} points, {ends})"
        told.append(
            f"{name} against {names[0]}: {throughput}. "
            f"Of {len(own)} figures {judged}, "
            f"{counts[LineVerdict.UNKNOWN]} without an interval."
        )
    return told


def peaks(together: Sequence[Together], runs: Sequence[KeptRun], names: Sequence[str]) -> list[dict[str, str]]:
    """A row for each experiment and run that has it: its peaks, whatever the point."""
    return [
        {"experiment": item.title, "run": name, **headline(side.offline, side.online)}
        for item in together
        for side, name in zip(item.sides, names, strict=True)
        if side is not None and (side.offline or side.online)
    ]


def unique_names(runs: Sequence[KeptRun]) -> list[str]:
    """A name for each run: its own, with the folder above if two runs have the same, with a number if that is not
    enough."""
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [f"{run.folder.parent.name}/{run.name}" if names.count(run.name) > 1 else run.name for run in runs]
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique
