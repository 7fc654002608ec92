"""Which experiments of several runs belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from runner.kept_run import ENSEMBLE, KeptExperiment, KeptRun

_FIRST = ("role", "format", "precision")
# What tells experiments of the same format and precision apart, the most telling first.
_FURTHER = (
    "device",
    "accelerator",
    "signature",
    "host",
    "instances",
    "threads",
    "preferred_batch_sizes",
    "max_queue_delay_us",
    "max_batch_size",
    "model",
    "experiment",
)
_NO_SETTING = ("experiment", "model", "format", "precision")


@dataclass(frozen=True)
class Together:
    """The same experiment in several runs: one for each run, None where it has none. ``title`` names it in tables."""

    title: str
    sides: tuple[KeptExperiment | None, ...]

    @property
    def settings(self) -> dict[str, list[str]]:
        """Settings that differ among the runs that have it and know them, with the value of each run."""
        names = dict.fromkeys(
            name for side in self.sides if side for name in side.parameters if name not in _NO_SETTING
        )
        values = {name: [side.parameters.get(name, "") if side else "" for side in self.sides] for name in names}
        return {name: row for name, row in values.items() if len({value for value in row if value}) > 1}


def align(runs: Sequence[KeptRun]) -> list[Together]:
    """The experiments of all runs, by format and precision, the network's and the ensemble's apart. Where a run has
    several of the same format and precision, further settings tell them apart, as few as needed."""
    groups: dict[tuple[str, ...], list[list[KeptExperiment]]] = {}
    for index, run in enumerate(runs):
        for experiment in run.experiments:
            key = _values(experiment, _FIRST)
            groups.setdefault(key, [[] for _ in runs])[index].append(experiment)
    return [together for key, sides in groups.items() for together in _of_group(key, sides)]


def _of_group(key: tuple[str, ...], sides: Sequence[Sequence[KeptExperiment]]) -> Iterator[Together]:
    names = _telling(sides)
    found: dict[tuple[str, ...], list[KeptExperiment | None]] = {}
    for index, side in enumerate(sides):
        for experiment in side:
            found.setdefault(_values(experiment, names), [None] * len(sides))[index] = experiment
    role, *first = key
    for values, experiments in found.items():
        told = [f"{name} {value or 'unknown'}" for name, value in zip(names, values, strict=True)]
        yield Together(", ".join([" ".join(first), *([ENSEMBLE] if role else []), *told]), tuple(experiments))


def _telling(sides: Sequence[Sequence[KeptExperiment]]) -> list[str]:
    """Settings, as few as needed, by which no run has two experiments that are the same."""
    names: list[str] = []
    while (most := _distinct(sides, names)) < sum(map(len, sides)):
        better = next((name for name in _FURTHER if _distinct(sides, [*names, name]) > most), None)
        if better is None:
            break  # the number of the experiment always tells
        names.append(better)
    return names


def _distinct(sides: Sequence[Sequence[KeptExperiment]], names: Sequence[str]) -> int:
    return sum(len({_values(experiment, names) for experiment in side}) for side in sides)


def _values(experiment: KeptExperiment, names: Sequence[str]) -> tuple[str, ...]:
    known: Mapping[str, str] = {**experiment.parameters, "role": experiment.role}
    return tuple(known.get(name, "") for name in names)
