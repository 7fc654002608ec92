"""What has to hold before a step of a roll-out, and the error if it does not."""

from __future__ import annotations

from deployment_toolkit.deploying.model_repository import Package
from deployment_toolkit.errors import ModelError, UsageError
from deployment_toolkit.rollout.model_folder import ANEW, CONFIG, ModelFolder, digest_of, ensembles_with
from deployment_toolkit.rollout.record import RolloutRecord, RolloutStep, Site
from deployment_toolkit.rollout.serving import (
    other_configuration,
    ready_versions,
    require_loading_on_request,
    told,
)


def require_step(site: Site, *steps: RolloutStep) -> RolloutRecord:
    """The record, if it is at one of these steps; else raises UsageError."""
    record = site.record()
    if record is None:
        raise UsageError(f"no roll-out of model {site.name} is under way in {site.repository}: stage a candidate first")
    if record.step not in steps:
        raise UsageError(
            f"the roll-out of model {site.name} is {record.step}, not {' or '.join(steps)}: the command status tells "
            "what can follow"
        )
    return record


def require_ready_for(site: Site, live: ModelFolder) -> None:
    """Raises an error unless the server serves the model as it is on disk, and nothing is in the candidate's way."""
    found, wanted = ready_versions(site, site.name), live.policy()
    if found != sorted(wanted):
        raise ModelError(
            f"the server at {site.url} serves version {told(found)} of model {site.name}, its {CONFIG} names "
            f"{told(wanted)}: deploy the model as it was (model-navigator triton-config-model --load-model), then "
            "stage the candidate"
        )
    changed = other_configuration(site, live, wanted)
    if changed:
        raise ModelError(
            f"the server at {site.url} runs model {site.name} with {changed}: deploy the model as it was, and start "
            "the server with --disable-auto-complete-config, so that it adds nothing to a configuration"
        )
    ensembles = ensembles_with(site.repository, site.name)
    if ensembles:
        raise ModelError(
            f"model {site.name} is a step of ensemble {ensembles[0]}, and no roll-out replaces an ensemble or its "
            f"models: {ANEW}"
        )
    if site.staged.exists() or ready_versions(site, site.candidate_name):
        raise UsageError(
            f"there is a model {site.candidate_name} already, {site.staged}: remove it, a candidate gets it"
        )
    require_loading_on_request(site)


def require_as_before(site: Site, live: ModelFolder) -> None:
    """Raises ModelError if the model's configuration has been changed since the candidate was staged."""
    if live.text != ModelFolder.read(site.before).text:
        raise ModelError(
            f"{live.path / CONFIG} has been changed since the candidate was staged: go back, and stage it again"
        )


def require_unchanged(site: Site, record: RolloutRecord) -> None:
    """Raises ModelError if the candidate's files in the repository have been changed since it was staged."""
    number = record.new_version
    if digest_of(candidate_package(site, ModelFolder.read(site.staged), number, number)) != record.digest:
        raise ModelError(f"{site.staged} has been changed since it was staged: go back, and stage the candidate again")


def candidate_package(site: Site, folder: ModelFolder, version: int, number: int) -> Package:
    """A version of a folder as the candidate, in which it has this number."""
    return folder.package(version, name=site.candidate_name, number=number, policy=[number])
