"""A run as its files tell it: a folder of ``runner_workspace/runs``, a report that is kept under ``reports/``, or the
published figures of a GPU host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.results import capacity as capacities
from deployment_toolkit.results.capacity import CapacityRow, read_capacity_with_parameters
from deployment_toolkit.results.performance import PerformanceRow, in_order, read_with_parameters
from deployment_toolkit.results.tables import read_csv
from runner.kept_run.published_results import EXPERIMENTS, RESULTS, Sweep, read_published
from runner.kept_run.record import TASK_FILE, read_task

ENSEMBLE = "ensemble"
PUBLISHED = "published"
LATEST = "latest"
_PUBLISHED_FORMATS = {"TensorFlow": "tf-savedmodel", "NVIDIA TensorRT": "trt"}
DIFFERENCE = "_difference"  # of a metric's column in the table of correctness


@dataclass(frozen=True)
class KeptStage:
    """A stage of a run; ``experiment`` is None for the preparation. ``log`` is relative to the run's folder."""

    name: str
    experiment: int | None
    state: str
    seconds: float
    peak_memory_bytes: int
    message: str
    log: str


@dataclass(frozen=True)
class KeptExperiment:
    """Results of an experiment's network, or of the ensemble around it. ``parameters`` are the columns before the
    figures in the run's summaries, as text; older runs have fewer of them. ``correctness`` holds a row per dump, the
    framework's first, and ``worst_rows`` the rows of each dump that differ most from it. What was not measured is
    empty."""

    number: int
    role: str  # "", or ENSEMBLE
    parameters: Mapping[str, str]
    correctness: Sequence[Mapping[str, str]] = ()
    offline: Sequence[PerformanceRow] = ()
    online: Sequence[PerformanceRow] = ()
    capacity: Sequence[CapacityRow] = ()
    worst_rows: Sequence[Mapping[str, str]] = ()

    @property
    def title(self) -> str:
        """Name of the experiment in tables and pictures."""
        model = f", {self.parameters['model']}" if self.role else ""
        return f"{self.number}: {self.parameters['format']} {self.parameters['precision']}{model}"

    def performance(self, mode: EvaluationMode) -> Sequence[PerformanceRow]:
        """Rows of one sweep."""
        return {EvaluationMode.OFFLINE: self.offline, EvaluationMode.ONLINE: self.online}.get(mode, ())


@dataclass(frozen=True)
class KeptRun:
    """A run, and what is known of it. ``system`` are the host and, under ``packages``, the versions; ``config`` is the
    configuration, both as in ``task.yaml``; times are UTC, as text. The published figures have no stages and no
    configuration."""

    name: str
    folder: Path
    command: str
    started: str
    finished: str
    system: Mapping[str, Any]
    config: Mapping[str, Any]
    stages: Sequence[KeptStage]
    experiments: Sequence[KeptExperiment]
    interrupted: bool = False
    task: Mapping[str, Any] = field(default_factory=dict, repr=False)  # all of task.yaml

    @property
    def host(self) -> str:
        """Line about the host, for the head of a report."""
        system = self.system
        known = [str(system.get("cpu") or "")]
        known += [f"{system['cores']} cores"] if system.get("cores") else []
        known += [f"{system['memory_gib']:.0f} GiB"] if isinstance(system.get("memory_gib"), int | float) else []
        known += [str(system.get("system") or ""), *(f"GPU {gpu}" for gpu in system.get("gpus") or ())]
        return ", ".join(filter(None, known)) or "an unknown host"

    def stages_of(self, number: int | None) -> list[KeptStage]:
        """Stages of one experiment, or of the preparation."""
        return [stage for stage in self.stages if stage.experiment == number]


def metrics_of(row: Mapping[str, str]) -> list[str]:
    """The metrics in a row of the table of correctness."""
    return [name for name in row if f"{name}{DIFFERENCE}" in row]


def read_kept_run(folder: Path) -> KeptRun:
    """Reads a run's folder, or a kept report. Raises UsageError if it is none, DataError if a file in it can't be
    read."""
    if not (folder / TASK_FILE).is_file():
        raise UsageError(f"{folder} is no run (it has no {TASK_FILE}): give a folder of runner_workspace/runs")
    folder = folder.resolve()  # runs/latest is a link
    path = folder / TASK_FILE
    task = read_task(path)
    stages = [_stage(stage, path) for stage in task["stages"]]
    return KeptRun(
        name=folder.name,
        folder=folder,
        command=str(task["command"]),
        started=str(task["started"]),
        finished=str(task.get("finished") or ""),
        system=task["system"] or {},
        config=task["config"],
        stages=stages,
        experiments=_experiments(folder, task, stages),
        interrupted=bool(task.get("interrupted")),
        task=task,
    )


def read_published_run(device: str, reports: Path) -> KeptRun:
    """The published figures of the GPU host whose name has ``device`` in it. Raises UsageError if not exactly one
    does."""
    path = reports / RESULTS
    sweeps = read_published(path)
    devices = list(dict.fromkeys(sweep.device for sweep in sweeps))
    found = [name for name in devices if _plain(device) in _plain(name)]
    if len(found) != 1 or not _plain(device):
        raise UsageError(f"{PUBLISHED}:{device} is not the figures of one host: choose from {', '.join(devices)}")
    own = [sweep for sweep in sweeps if sweep.device == found[0]]
    return KeptRun(
        name=f"{PUBLISHED}:{found[0]}",
        folder=reports,
        command="",
        started="2022-05",
        finished="",
        system={"gpus": found},
        config={},
        stages=(),
        experiments=[_published(backend, own) for backend in dict.fromkeys(sweep.backend for sweep in own)],
    )


def find_run(text: str, workspace: Path, reports: Path) -> KeptRun:
    """The run that a user means: a folder, a name under ``workspace/runs`` (``latest``, too), the name of a report that
    is kept under ``reports``, or ``published:HOST``. Raises UsageError if there is none, DataError if it can't be
    read."""
    if text == PUBLISHED or text.startswith(f"{PUBLISHED}:"):
        return read_published_run(text.removeprefix(PUBLISHED).removeprefix(":"), reports)
    places = (Path(text), workspace / "runs" / text, reports / text)
    for place in places:
        if text and (place / TASK_FILE).is_file():
            return read_kept_run(place)
    kept = sorted(path.parent.name for path in reports.glob(f"*/{TASK_FILE}"))
    raise UsageError(
        f"{text!r} is no run: give the folder of a run, its name in {workspace / 'runs'} (or latest), a kept report "
        f"({', '.join(kept)}), or {PUBLISHED}:HOST"
    )


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def _published(backend: str, sweeps: Sequence[Sweep]) -> KeptExperiment:
    own = {sweep.mode: sweep for sweep in sweeps if sweep.backend == backend}
    precision = next(iter(own.values())).precision.lower()
    parameters = {"experiment": str(EXPERIMENTS[backend]), "model": "", "format": _PUBLISHED_FORMATS[backend]}
    offline, online = (in_order(own[mode].rows) for mode in (EvaluationMode.OFFLINE, EvaluationMode.ONLINE))
    return KeptExperiment(
        EXPERIMENTS[backend], "", {**parameters, "precision": precision, "device": "gpu"}, (), offline, online
    )


def _stage(stage: Mapping[str, Any], path: Path) -> KeptStage:
    numbers = [stage.get("seconds", 0), stage.get("peak_memory_bytes", 0)]
    if not all(isinstance(number, int | float) for number in numbers):
        raise DataError(f"{path}: the stage {stage['name']} has no number of seconds or bytes: give another run")
    told = (str(stage.get(key) or "") for key in ("message", "log"))
    return KeptStage(stage["name"], stage["experiment"], stage["state"], float(numbers[0]), int(numbers[1]), *told)


def _experiments(folder: Path, task: Mapping[str, Any], stages: Sequence[KeptStage]) -> list[KeptExperiment]:
    """The experiments that have stages or figures, each after the other, an ensemble after its network."""
    network = str(task["config"].get("model_name", ""))
    found: dict[tuple[int, str], dict[str, Any]] = {}
    ran = sorted({stage.experiment for stage in stages if stage.experiment is not None})
    configurations = task["config"]["configurations"]
    for number in ran:
        if number <= len(configurations):
            parameters = configurations[number - 1]["parameters"]
            told = {"experiment": str(number), "model": network, **{k: parameters[k] for k in ("format", "precision")}}
            found[number, network] = {"parameters": told}
    for kind, parameters, row in _rows(folder):
        key = (_number(parameters, folder), parameters.get("model", network))
        entry = found.setdefault(key, {})
        entry["parameters"] = {"format": "?", "precision": "?", **parameters}
        entry.setdefault(kind, []).append(row)
    return [
        KeptExperiment(number, ENSEMBLE if model != network else "", **_in_order(entry))
        for (number, model), entry in sorted(found.items(), key=lambda item: (item[0][0], item[0][1] != network))
    ]


def _rows(folder: Path) -> Iterable[tuple[str, dict[str, str], Any]]:
    """Kind, parameters and figures of each row of the summaries."""
    for kind in ("correctness", "worst_rows"):
        path = folder / f"{kind}_summary.csv"
        for line in read_csv(path) if path.is_file() else ():
            names = list(line)
            if "name" not in names:
                raise DataError(f"{path} has no column name: it is no table of correctness, give another run")
            split = names.index("name")
            yield kind, {n: line[n] for n in names[:split]}, {n: line[n] for n in names[split:]}
    for mode in (EvaluationMode.OFFLINE, EvaluationMode.ONLINE):
        path = folder / f"triton_performance_{mode}_summary.csv"
        for parameters, row in read_with_parameters(path) if path.is_file() else ():
            yield str(mode), parameters, row
    path = folder / "triton_performance_capacity_summary.csv"
    for parameters, row in read_capacity_with_parameters(path) if path.is_file() else ():
        yield "capacity", parameters, row


def _number(parameters: Mapping[str, str], folder: Path) -> int:
    try:
        return int(parameters["experiment"])
    except (KeyError, ValueError) as error:
        raise DataError(
            f"a summary in {folder} has a row without the number of its experiment: give another run"
        ) from error


def _in_order(entry: Mapping[str, Any]) -> dict[str, Any]:
    orders = {"offline": in_order, "online": in_order, "capacity": capacities.in_order}
    return {name: orders[name](value) if name in orders else value for name, value in entry.items()}
