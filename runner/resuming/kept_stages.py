"""Which stages of an experiment are kept when its run goes on.

A stage is kept if it ended well, its origin is the same (options, files, code, packages, and the stages that made its
model), and its results are as it left them. Models are needed only by the stages that run again:

- the server is new, so ``deploy`` runs again for any stage that asks it;
- a conversion whose product is gone is made again, an exported model only for a conversion;
- if a model was made again, all stages after it run again, since its content may differ.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from deployment_toolkit.errors import DeploymentError
from deployment_toolkit.files.atomic import remove
from deployment_toolkit.sameness.command import Origin, files_digest
from deployment_toolkit.sameness.points import has_model, model_digest
from runner.experiment import Experiment
from runner.records import StageRecord
from runner.report.results import keep_conversion
from runner.resuming.ledger import RunLedger, StageEntry
from runner.resuming.plan import differs_in_points, origin_digest, planned, results_of, stage_origin
from runner.search.results import SEARCH_TABLE
from runner.search.stage import FOLDER, apply_choice
from runner.stages.ensemble import PREFIX
from runner.stages.network import REFERENCE, Stage

logger = logging.getLogger("runner")

EXPORT, CONVERT, SEARCH, DEPLOY, CORRECTNESS = "export", "convert", "search", "deploy", "correctness"
ENSEMBLE_DEPLOY = "ensemble deploy"
EARLIER = "earlier"  # folder of results that count no more
_MAKERS = (EXPORT, CONVERT, SEARCH, DEPLOY, ENSEMBLE_DEPLOY)
_RESULTS, _PRODUCT, _MODEL = "results", "product", "model"


class KeptStages:
    """Decisions for one experiment, and the notes of its stages in the ledger. A new run keeps nothing."""

    def __init__(self, experiment: Experiment, stages: Sequence[Stage], ledger: RunLedger) -> None:
        self._experiment = experiment
        distant = experiment.server_config.distant
        self._stages = [stage for stage in stages if not (stage.shares_memory and distant)]
        self._ledger = ledger
        self._kept: set[str] = set()
        self._deployed: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        if any(ledger.entry(self._key(stage.name)) is not None for stage in stages):
            self._decide()

    def record(self, stage: Stage) -> StageRecord | None:
        """Record of a stage that is kept, without its commands; None if it has to run. A search that is kept has set
        the experiment's parameters."""
        entry = self._ledger.entry(self._key(stage.name))
        if stage.name not in self._kept or entry is None or entry.record is None:
            return None
        return StageRecord.from_dict(entry.record)

    def begin(self, stage: Stage) -> None:
        """Before a stage runs: notes its origin, and sets aside what a stage of another origin has measured."""
        entry = self._ledger.entry(self._key(stage.name))
        self._experiment.keeps_points = False
        try:
            origin = self._origin(stage)
        except (DeploymentError, OSError):  # the stage itself tells it better
            self._ledger.forget(self._key(stage.name))
            return
        self._experiment.keeps_points = entry is not None and _is_alike(origin, entry)
        if entry is not None and not self._experiment.keeps_points:
            self._set_aside(stage)
        self._ledger.note(self._key(stage.name), StageEntry(origin.parts, deployed=self._known_model(stage)))

    def end(self, stage: Stage, record: StageRecord) -> None:
        """After a stage ended well: notes what it left. A model that was deployed again and differs from the one before
        makes all stages after it run again."""
        key = self._key(stage.name)
        entry = self._ledger.entry(key)
        if entry is None:
            return
        try:
            if stage.name == CONVERT:
                keep_conversion(self._experiment)
            made = self._made(stage)
        except (DeploymentError, OSError) as error:
            self._ledger.forget(key)
            logger.warning("a run that goes on would repeat %s, whose results can't be looked at: %s", key, error)
            return
        self._ledger.note(key, StageEntry(entry.origin, made, record.to_dict()))
        if stage.name in (DEPLOY, ENSEMBLE_DEPLOY) and self._kept:
            self._compare_model(stage, made)

    def _decide(self) -> None:
        self._deployed = {stage.name: self._known_model(stage) for stage in self._stages}
        searching = False
        for stage in self._stages:
            changed = ["the settings that a search chooses"] if searching else self._changes(stage)
            if changed:
                self._tell(stage, changed)
                searching = searching or stage.name == SEARCH
                continue
            self._kept.add(stage.name)
            if stage.name == SEARCH:
                apply_choice(self._experiment)
        if len(self._kept) < len(self._stages):
            self._add_what_is_needed()

    def _add_what_is_needed(self) -> None:
        """Takes stages out of those that are kept whose models or dumps the others need."""
        missing = [stage for stage in self._stages if stage.name not in self._kept]
        if any(stage.name.startswith(PREFIX.replace("_", " ")) for stage in missing):
            self._kept.discard(ENSEMBLE_DEPLOY)
            if not (self._experiment.folders.dumps / REFERENCE).exists():
                self._kept.discard(CORRECTNESS)
        if any(stage.needs_server for stage in missing):
            self._kept.discard(DEPLOY)
        for maker, user in ((CONVERT, DEPLOY), (EXPORT, CONVERT)):
            if user not in self._kept and maker in self._kept and not self._has_product(maker):
                names = [stage.name for stage in self._stages]
                self._kept -= set(names[names.index(maker) :])

    def _changes(self, stage: Stage) -> list[str]:
        """Why a stage has to run. Results of another origin are set aside at once, so that no report shows them, also
        if the stage is not reached."""
        entry = self._ledger.entry(self._key(stage.name))
        if entry is None:
            return ["it has not begun"]
        try:
            origin = self._origin(stage)
        except (DeploymentError, OSError) as error:
            return [f"what it needs can't be looked at ({error})"]
        changed = origin.changed(entry.origin)
        if changed:
            if not _is_alike(origin, entry):
                self._set_aside(stage)
        elif entry.made is None:
            return ["it has not ended"]
        elif entry.made.get(_RESULTS) != self._results(stage):
            return ["its results"]
        return changed

    def _tell(self, stage: Stage, changed: Sequence[str]) -> None:
        entry = self._ledger.entry(self._key(stage.name))
        if entry is not None and entry.made is not None:  # else it is clear why
            told = ", ".join(changed)
            logger.info("experiment %d: %s runs again, changed since: %s", self._experiment.number, stage.name, told)

    def _origin(self, stage: Stage) -> Origin:
        before = ""
        for maker in self._stages:
            if maker is stage:
                break
            if maker.name in _MAKERS:
                if maker.name not in self._digests:
                    self._digests[maker.name] = origin_digest(stage_origin(self._experiment, maker, before))
                before = self._digests[maker.name]
        return stage_origin(self._experiment, stage, before)

    def _made(self, stage: Stage) -> dict[str, str]:
        made = {_RESULTS: self._results(stage)}
        if stage.name in (EXPORT, CONVERT):
            made[_PRODUCT] = self._product(stage.name)
        if stage.name in (DEPLOY, ENSEMBLE_DEPLOY):
            made[_MODEL] = self._model(stage)
        return made

    def _results(self, stage: Stage) -> str:
        if stage.name == SEARCH:
            return files_digest([self._experiment.folders.results / SEARCH_TABLE])
        return files_digest(results_of(self._experiment, planned(self._experiment, stage)))

    def _product(self, name: str) -> str:
        path = self._experiment.exported if name == EXPORT else self._experiment.folders.converted
        return files_digest(path.parent.glob(f"{path.name}*"))

    def _has_product(self, name: str) -> bool:
        entry = self._ledger.entry(self._key(name))
        return entry is not None and entry.made is not None and entry.made.get(_PRODUCT) == self._product(name)

    def _model(self, stage: Stage) -> str:
        names, repository = self._experiment.names, self._experiment.folders.model_store
        name = names.network if stage.name == DEPLOY else names.ensemble
        return model_digest(repository, name) if name and has_model(repository, name) else ""

    def _known_model(self, stage: Stage) -> str:
        entry = self._ledger.entry(self._key(stage.name))
        if entry is None:
            return ""
        return entry.deployed if entry.made is None else entry.made.get(_MODEL, "")

    def _compare_model(self, stage: Stage, made: dict[str, str]) -> None:
        if made[_MODEL] != self._deployed[stage.name]:
            names = [item.name for item in self._stages]
            lost = self._kept & set(names[names.index(stage.name) + 1 :])
            self._kept -= lost
            if lost:
                told = ", ".join(name for name in names if name in lost)
                logger.info("experiment %d: its model is another now: %s run again", self._experiment.number, told)

    def _set_aside(self, stage: Stage) -> None:
        """Moves what a stage of another origin has measured out of the way, in place of what was moved before."""
        results = self._experiment.folders.results
        if stage.name == SEARCH:
            found = [results / FOLDER, results / SEARCH_TABLE]
        else:
            named = results_of(self._experiment, planned(self._experiment, stage))
            found = [beside for path in named for beside in path.parent.glob(f"{path.stem}.*")]
        for path in found:
            if path.exists():
                target = results / EARLIER / path.relative_to(results)
                target.parent.mkdir(parents=True, exist_ok=True)
                remove(target)
                path.replace(target)

    def _key(self, name: str) -> str:
        return f"{self._experiment.number} {name}"


def _is_alike(origin: Origin, entry: StageEntry) -> bool:
    """True if what a stage measured before can stand beside what it would measure now."""
    return not origin.changed(entry.origin) or differs_in_points(origin, entry.origin)
