"""Results of an experiment, read from the files that its stages wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.deploying.model_config import read_config
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.options.located_yaml import Located, load_yaml
from deployment_toolkit.results.capacity import BUDGET, ROWS, CapacityRow, capacities, read_capacity
from deployment_toolkit.results.capacity_bounds import is_lower_bound
from deployment_toolkit.results.left_out import LeftOut, read_left_out
from deployment_toolkit.results.performance import (
    THROUGHPUT,
    US_PER_MS,
    PerformanceRow,
    headline,
    read_performance,
)
from deployment_toolkit.results.tables import read_csv
from runner.config.experiment import TritonLaunchMode
from runner.config.hosting import host_of
from runner.config.parts import Correctness
from runner.experiment import Experiment
from runner.records import StageRecord, StageState
from runner.search.results import SEARCH_TABLE, MeasuredCandidate, read_search
from runner.stages.capacity import CAPACITY_TABLE
from runner.stages.client import WORST_ROWS
from runner.stages.ensemble import ENSEMBLE_CAPACITY, ENSEMBLE_STAGES
from runner.stages.network import REFERENCE

DIFFERENCE = "_difference"  # of a metric's column in correctness.csv
AT_LEAST = "≥"  # before a capacity that may be higher


@dataclass(frozen=True)
class ExperimentResult:
    """Results of the network, or of the ensemble around it. ``correctness`` holds a row per dump, the
    framework's first; what was not measured is empty."""

    experiment: Experiment
    model_name: str
    folder: Path
    records: list[StageRecord]
    correctness: list[dict[str, str]]
    offline: list[PerformanceRow]
    online: list[PerformanceRow]
    capacity: list[CapacityRow] = field(default_factory=list)
    conversion: str = ""  # what was found when the model was converted
    search: list[MeasuredCandidate] = field(default_factory=list)
    searched: bool = False  # to the end
    left_out: dict[EvaluationMode, LeftOut] = field(default_factory=dict)  # by the time budget

    @property
    def worst_rows(self) -> list[dict[str, str]]:
        """The rows of each dump that differ most from the framework's."""
        path = self.folder / WORST_ROWS
        return read_csv(path) if path.is_file() else []

    @property
    def title(self) -> str:
        """Name of the experiment in tables and pictures."""
        parameters = self.experiment.parameters
        title = f"{self.experiment.number}: {parameters.format} {parameters.precision}"
        return title if self.model_name == self.experiment.names.network else f"{title}, {self.model_name}"

    @property
    def parameters(self) -> dict[str, str]:
        """Distinguishing settings, as columns of a summary."""
        parameters = self.experiment.parameters
        return {
            "experiment": str(self.experiment.number),
            "model": self.model_name,
            "format": str(parameters.format),
            "precision": str(parameters.precision),
            "accelerator": str(parameters.backend_accelerator),
            "device": str(parameters.device_kind),
            "instances": str(parameters.number_of_model_instances),
            "max_batch_size": str(parameters.max_batch_size),
            "host": str(host_of(self.experiment.server_config.mode, parameters)),
            "threads": "as the host likes" if parameters.threads is None else str(parameters.threads),
            "preferred_batch_sizes": " ".join(
                map(str, parameters.preferred_batch_sizes or [parameters.max_batch_size])
            ),
            "max_queue_delay_us": str(parameters.max_queue_delay_us),
            "signature": self._signature,
        }

    @property
    def _signature(self) -> str:
        """Number of tensors in a request, from the configuration that was deployed; empty if none was."""
        path = self.folder / "config.pbtxt"
        return f"{len(read_config(path).input)} tensors" if path.is_file() else ""

    @property
    def server(self) -> str:
        """Server of the experiment: the launch mode, with the container's image or the address."""
        mode = self.experiment.server_config.mode
        where = {
            TritonLaunchMode.DOCKER: self.experiment.server_config.image,
            TritonLaunchMode.REMOTE: str(self.experiment.server_config.grpc_url),
        }
        return ", ".join(filter(None, (str(mode), where.get(mode))))

    def performance(self, mode: EvaluationMode) -> list[PerformanceRow]:
        """The rows of one sweep."""
        return self.offline if mode is EvaluationMode.OFFLINE else self.online

    @property
    def outcome(self) -> str:
        """``ok``, the first stage that is not, or ``skipped`` if nothing of it was run."""
        if self.records and all(record.state is StageState.SKIPPED for record in self.records):
            return str(StageState.SKIPPED)
        state = next((record for record in self.records if record.state is not StageState.OK), None)
        return "ok" if state is None and self.records else f"{state.name} {state.state}" if state else "not run"

    @property
    def summary(self) -> dict[str, str]:
        """The line of the experiment in the run's summary table."""
        return {
            "experiment": self.title,
            "result": self.outcome,
            **_correctness_summary(self.correctness, self.experiment.correctness),
            **headline(self.offline, self.online),
            **self._capacity_summary,
        }

    @property
    def _capacity_summary(self) -> dict[str, str]:
        """The rate that holds for each number of rows and latency budget, empty where not measured."""
        experiment, summary = self.experiment, {}
        if experiment.capacity is None:
            return {}
        held, measured = capacities(self.capacity), {(row[ROWS], row[BUDGET]) for row in self.capacity}
        for rows in experiment.capacity.rows_for(experiment.parameters, experiment.batching):
            for budget_ms in sorted(experiment.capacity.latency_budgets_ms):
                key = rows, budget_ms * US_PER_MS
                name = f"capacity at p99 ≤ {budget_ms:g} ms, {row_count(rows)} (inferences/s)"
                summary[name] = (
                    shown_rate(self.capacity, held[key]) if key in held else "none" if key in measured else ""
                )
        return summary


def read_results(experiment: Experiment, records: list[StageRecord]) -> list[ExperimentResult]:
    """Results in an experiment's files: of the network, and of the ensemble if there is one."""
    names, folders = experiment.names, experiment.folders
    ensemble = {stage.name for stage in (*ENSEMBLE_STAGES, ENSEMBLE_CAPACITY)}
    own = [record for record in records if record.name not in ensemble]
    results = [_read(experiment, names.network, folders.results, own)]
    if names.ensemble is not None:
        others = [record for record in records if record.name in ensemble]
        results.append(_read(experiment, names.ensemble, folders.ensemble_results, others))
    return results


def keep_configs(experiment: Experiment) -> None:
    """Copies what the server was told of the experiment's models beside its results."""
    names, folders = experiment.names, experiment.folders
    kept = {names.network: folders.results, names.ensemble: folders.ensemble_results}
    for name, folder in kept.items():
        source = folders.model_store / (name or "") / "config.pbtxt"
        if source.is_file():
            folder.mkdir(exist_ok=True)
            write_text(folder / "config.pbtxt", source.read_text())


def keep_conversion(experiment: Experiment) -> None:
    """Copies what was found at the conversion beside the results, since its folder goes with the models."""
    path = _conversion_results(experiment)
    if path.is_file():
        write_text(experiment.folders.results / path.name, path.read_text())


def _read(experiment: Experiment, model_name: str, folder: Path, records: list[StageRecord]) -> ExperimentResult:
    correctness, offline, online, capacity, search = (
        folder / name
        for name in (
            "correctness.csv",
            "triton_performance_offline.csv",
            "triton_performance_online.csv",
            CAPACITY_TABLE,
            SEARCH_TABLE,
        )
    )
    measured, searched = read_search(search) if search.is_file() else ([], False)
    return ExperimentResult(
        experiment=experiment,
        model_name=model_name,
        folder=folder,
        records=records,
        correctness=read_csv(correctness) if correctness.is_file() else [],
        offline=read_performance(offline) if offline.is_file() else [],
        online=read_performance(online) if online.is_file() else [],
        capacity=read_capacity(capacity) if capacity.is_file() else [],
        conversion=_read_conversion(experiment) if model_name == experiment.names.network else "",
        search=measured,
        searched=searched,
        left_out={EvaluationMode.OFFLINE: read_left_out(offline), EvaluationMode.ONLINE: read_left_out(online)},
    )


def _read_conversion(experiment: Experiment) -> str:
    made = _conversion_results(experiment)
    path = next((path for path in (made, experiment.folders.results / made.name) if path.is_file()), None)
    if path is None:
        return ""
    attempts = load_yaml(path, empty_keys=True).items("the results of a conversion")
    return "; ".join(f"{_told(attempt, 'name')}: {_told(attempt, 'status', 'message')}" for attempt in attempts)


def _conversion_results(experiment: Experiment) -> Path:
    return experiment.folders.shared / "navigator_workspace" / "convert_model_results.yaml"


def _told(attempt: Located, *keys: str) -> str:
    """Text of a conversion's result below these keys. Raises DataError if it has none."""
    for key in keys:
        entries = attempt.entries("a result")
        if key not in entries:
            raise attempt.error(f"a result of the conversion lacks {key}: convert again")
        attempt = entries[key]
    return attempt.text_as_written


def shown_rate(rows: list[CapacityRow], held: CapacityRow) -> str:
    """Inferences per second of the rate that holds; at least so many, if the server may do more."""
    return f"{f'{AT_LEAST} ' if is_lower_bound(rows, held) else ''}{held[THROUGHPUT]:,.0f}"


def row_count(rows: int) -> str:
    """Words for the rows of a request."""
    return "1 row" if rows == 1 else f"{rows:,} rows"


def metrics_of(row: Mapping[str, str]) -> list[str]:
    """The metrics in a line of correctness.csv."""
    return [name for name in row if f"{name}{DIFFERENCE}" in row]


def _correctness_summary(rows: list[dict[str, str]], limits: Correctness) -> dict[str, str]:
    """Each gated metric of the framework, and of the served dump that differs most from it."""
    reference = next((row for row in rows if row["name"] == REFERENCE), None)
    served = [row for row in rows if row["name"] != REFERENCE]
    summary: dict[str, str] = {}
    for metric in limits.gated:
        shown = {"framework": "", "served": ""}
        if reference is not None and served and metric in metrics_of(reference):  # one without a limit may be missing
            farthest = max(served, key=lambda row: abs(float(row[f"{metric}{DIFFERENCE}"])))
            shown = {"framework": f"{float(reference[metric]):.6f}", "served": f"{float(farthest[metric]):.6f}"}
        summary |= {f"{limits.title(metric)} {name}": value for name, value in shown.items()}
    differences = [float(row["max_abs_diff"]) for row in served if row["max_abs_diff"]]
    return {**summary, "largest difference": f"{max(differences):.1e}" if differences else ""}
