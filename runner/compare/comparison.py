"""A comparison of runs as a folder: ``comparison.md``, ``comparison.csv`` and pictures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import replace_when_complete, write_text
from deployment_toolkit.results.performance import markdown_table
from deployment_toolkit.results.tables import write_csv
from runner.compare.alignment import Together, align
from runner.compare.correctness import NEGLIGIBLE, CorrectnessLine, correctness_lines
from runner.compare.hosts import differences
from runner.compare.html import HTML, Parts, comparison_page
from runner.compare.judgement import Judgement, judge
from runner.compare.lines import Line, lines_of
from runner.compare.pictures import comparison_plots
from runner.compare.tables import (
    correctness_cells,
    in_words,
    line_cells,
    peaks,
    shown,
    unique_names,
    verdict_counts,
)
from runner.kept_run import KeptRun
from runner.records import StageState

TEXT, TABLE = "comparison.md", "comparison.csv"
_SCENARIOS = {"offline": "Offline", "online": "Online", "capacity": "Capacity"}
_SAME = ("scenario", "experiment", "base")  # said by headings
_UNSAID = ("scenario", "base")
READING = (
    "A difference is that of the run to the first run. Its interval of 95 % comes from the repeated windows of both "
    "measurements (bootstrap, with Student's t because the windows are few); where other programs used the cores or "
    "the CPU's speed changed, it reaches as far as that could explain. Where it holds 0, both figures *can't be told "
    "apart*. `no interval`: the files don't have the windows, as older runs and the published figures, or the figure "
    "is a p99, which windows don't give. An interval says nothing of what changes between two runs and not within one: "
    "measure twice before you believe a small difference. Of 100 figures of equal servers, a few are called better or "
    "worse by chance.\n"
)
_DISTURBED = (
    "Of figures that are *disturbed*, other programs used the cores while one of both was measured, or the CPU's speed "
    "changed; ‡ marks these measurements among the peaks.\n"
)
_CAPACITY = (
    "The interval of a capacity is what the tried rates leave open, from the highest rate that held to the lowest that "
    "did not, widened by a tenth to each side for what the host may have done.\n"
)


@dataclass(frozen=True)
class Comparison:
    """Runs side by side; the first is what the others are compared with."""

    runs: list[KeptRun]
    names: list[str]
    together: list[Together]
    lines: list[Line]
    correctness: list[CorrectnessLine]

    @classmethod
    def of(cls, runs: Sequence[KeptRun]) -> Comparison:
        """Compares two runs or more. Raises DataError if a table of correctness can't be read."""
        names, together = unique_names(runs), align(runs)
        lines, correctness = lines_of(together, runs, names), correctness_lines(together, names)
        return cls(list(runs), names, together, lines, correctness)

    def judge(self, limit: float) -> Judgement:
        """Whether a run is worse than the first by more than ``limit``, a share."""
        return judge(self.lines, self.correctness, limit)

    @property
    def cells(self) -> list[dict[str, str]]:
        """Rows of ``comparison.csv``."""
        first = self.names[0]
        speed = [line_cells(line, first) for line in self.lines]
        return [*speed, *(correctness_cells(line, first) for line in self.correctness)]

    def write(self, folder: Path, judgement: Judgement | None) -> None:
        """Writes the folder, in place of an earlier comparison. Raises UsageError if something else is there, DataError
        if it can't be written."""
        if folder.is_dir() and any(folder.iterdir()) and not (folder / TEXT).is_file():
            raise UsageError(f"{folder} holds something else than a comparison: choose another folder")
        plots = comparison_plots(self.together, self.lines, self.names)
        with replace_when_complete(folder, replaces_all=True) as beside:
            beside.mkdir()
            for name, content in plots.items():
                (beside / name).write_bytes(content)
            if self.cells:
                write_csv(beside / TABLE, self.cells)
            write_text(beside / HTML, comparison_page(self._parts, self.together, self.lines, judgement))
            write_text(beside / TEXT, self.markdown(list(plots), judgement))

    def markdown(self, plots: Sequence[str], judgement: Judgement | None) -> str:
        """The text of ``comparison.md``."""
        parts = [f"# {' against '.join([', '.join(self.names[1:]), self.names[0]])}\n"]
        parts += _judged(judgement) if judgement is not None else []
        told = self._parts
        parts += [f"{sentence}\n" for sentence in told.in_words]
        parts += ["## Runs\n", markdown_table(told.runs)]
        parts += ["## What differs beside the figures\n", markdown_table(told.differences) or "Nothing.\n"]
        parts += ["## In short\n", markdown_table(told.counts) or "The runs have no point in common.\n"]
        parts.append(told.reading)
        parts += [f"![{name.removesuffix('.png').replace('_', ' ')}]({name})\n" for name in plots]
        parts += ["### Peaks, whatever the point\n", markdown_table(told.peaks)]
        parts += self._correctness()
        for scenario, title in _SCENARIOS.items():
            parts += self._scenario(scenario, title)
        missing = "".join(f"- {text}\n" for text in told.missing)
        parts += ["## Not in every run\n", missing] if missing else []
        return "\n".join(parts)

    @property
    def _parts(self) -> Parts:
        found = differences(self.runs, self.together)
        return Parts(
            names=self.names,
            in_words=in_words(self.lines, self.names),
            runs=self._runs(),
            differences=[{"what": name, **dict(zip(self.names, values, strict=True))} for name, values in found],
            counts=verdict_counts(self.lines),
            peaks=peaks(self.together, self.runs, self.names),
            correctness=self._correctness_table(),
            missing=self._missing(),
            cells=self.cells,
            reading=READING + (_DISTURBED if any(line.is_disturbed for line in self.lines) else ""),
        )

    def _correctness_table(self) -> list[dict[str, str]]:
        return shown((correctness_cells(line, self.names[0]) for line in self.correctness if line.matters), _UNSAID)

    def _runs(self) -> list[dict[str, str]]:
        return [
            {
                "run": name,
                "host": run.host,
                "started (UTC)": run.started.replace("T", " ").removesuffix("+00:00"),
                "ended": _ending(run),
                "command": f"`{run.command}`" if run.command else "",
            }
            for run, name in zip(self.runs, self.names, strict=True)
        ]

    def _scenario(self, scenario: str, title: str) -> list[str]:
        lines = [line for line in self.lines if line.scenario == scenario]
        parts = [f"## {title}\n", *([_CAPACITY] if scenario == "capacity" else [])] if lines else []
        for experiment, group in itertools.groupby(lines_by_experiment(lines), key=lambda line: line.experiment):
            parts += [f"### {title}: {experiment}\n", markdown_table(self._shown(list(group)))]
        return parts

    def _shown(self, lines: Sequence[Line]) -> list[dict[str, str]]:
        return shown((line_cells(line, self.names[0]) for line in lines), _SAME)

    def _correctness(self) -> list[str]:
        worse = [line for line in self.correctness if line.worse]
        if not self.correctness:
            return ["## Correctness\n", "The runs have no compared answers in common.\n"]
        parts = ["## Correctness\n", f"{len(worse)} of {len(self.correctness)} figures got worse.\n"]
        return [*parts, markdown_table(self._correctness_table()) or f"None differs by more than {NEGLIGIBLE:g}.\n"]

    def _missing(self) -> list[str]:
        """What only some of the runs have."""
        found = []
        for item in self.together:
            have = [name for name, side in zip(self.names, item.sides, strict=True) if side is not None]
            if len(have) < len(self.names):
                found.append(f"{item.title}: only in {', '.join(have)}")
        for name in self.names[1:]:
            for item in self.together:
                found += _points_apart(item, self.names.index(name), self.names)
        return found


def lines_by_experiment(lines: Sequence[Line]) -> list[Line]:
    """Lines in the order in which their experiments first come, the runs of a point after each other."""
    order = {title: index for index, title in enumerate(dict.fromkeys(line.experiment for line in lines))}
    points = {point: index for index, point in enumerate(dict.fromkeys(line.point for line in lines))}
    return sorted(lines, key=lambda line: (order[line.experiment], points[line.point]))


def _points_apart(item: Together, index: int, names: Sequence[str]) -> list[str]:
    first, other = item.sides[0], item.sides[index]
    if first is None or other is None:
        return []
    found = []
    for scenario, sides in (("offline", (first.offline, other.offline)), ("online", (first.online, other.online))):
        points = [{(row["Batch"], row["Concurrency"]) for row in side} for side in sides]
        for own, name in ((points[0] - points[1], names[0]), (points[1] - points[0], names[index])):
            if own:
                listed = ", ".join(f"{batch} x {concurrency}" for batch, concurrency in sorted(own))
                found.append(f"{item.title}, {scenario}, batch x concurrency {listed}: only in {name}")
    dumps = [{row["name"] for row in side.correctness} for side in (first, other)]
    for alone, name in ((dumps[0] - dumps[1], names[0]), (dumps[1] - dumps[0], names[index])):
        found += [f"{item.title}, correctness of {', '.join(sorted(alone))}: only in {name}"] if alone else []
    return found


def _ending(run: KeptRun) -> str:
    """How a run ended: its figures may be those of a part of it."""
    bad = [stage for stage in run.stages if stage.state in (StageState.FAILED, StageState.KILLED)]
    told = [f"experiment {stage.experiment or '-'}, {stage.name}: {stage.state}" for stage in bad]
    return "; ".join([*(["interrupted"] if run.interrupted else []), *told]) or ("well" if run.stages else "")


def _judged(judgement: Judgement) -> list[str]:
    parts = [f"{judgement.sentence}\n"]
    return [*parts, "\n".join(f"- {line}" for line in judgement.told) + "\n"] if judgement.told else parts
