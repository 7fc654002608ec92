"""Which stages an experiment goes through."""

from __future__ import annotations

from runner.experiment import Experiment
from runner.search.stage import search_settings
from runner.stages.ensemble import ENSEMBLE_STAGES
from runner.stages.network import STAGES, Stage

SEARCH = Stage("search", search_settings, needs_server=True)
_DEPLOY = next(index for index, stage in enumerate(STAGES) if stage.name == "deploy")


def stages_of(experiment: Experiment) -> tuple[Stage, ...]:
    """In order: the search, where one is asked for, before the model is deployed; an ensemble's after all others."""
    search = (SEARCH,) if experiment.config.searches(experiment.number) else ()
    ensemble = ENSEMBLE_STAGES if experiment.config.ensemble_model_name is not None else ()
    return (*STAGES[:_DEPLOY], *search, *STAGES[_DEPLOY:], *ensemble)
