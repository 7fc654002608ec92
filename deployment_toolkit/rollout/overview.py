"""What a roll-out has done so far, and what can follow."""

from __future__ import annotations

from collections.abc import Iterator

from deployment_toolkit.errors import ServerError
from deployment_toolkit.rollout.record import RolloutRecord, RolloutStep, Site
from deployment_toolkit.rollout.serving import ready_versions, told

_MEANING = {
    RolloutStep.STAGING: ("the candidate was being copied or loaded", "stage with the same candidate, back"),
    RolloutStep.STAGED: ("the candidate is loaded, no gate has passed it", "gate, back"),
    RolloutStep.GATED: ("the candidate has passed the gate", "promote, back"),
    RolloutStep.PROMOTING: ("the new version was being promoted", "promote, back"),
    RolloutStep.PROMOTED: ("requests without a version get the new one", "finish, back"),
    RolloutStep.RETURNING: ("the versions before were being taken back", "back"),
    RolloutStep.FINISHING: ("the versions before were being removed", "finish"),
}


def overview(site: Site) -> Iterator[str]:
    """Lines for people: the record's, then the server's. Raises ServerError, after the record's lines, if the server
    does not answer."""
    record = site.record()
    if record is None:
        yield f"no roll-out of model {site.name} is under way in {site.repository}"
    else:
        yield from _recorded(site, record)
    try:
        served, candidate = ready_versions(site, site.name), ready_versions(site, site.candidate_name)
    except ServerError as error:
        raise ServerError(f"what is served is not known: {error}") from error
    yield f"server: {site.name} serves version {told(served)}, {site.candidate_name} {told(candidate)}"
    wanted = None if record is None else _wanted(record)
    if wanted is not None and served != wanted:
        yield f"server: version {told(wanted)} of {site.name} should be served: one of the next commands loads it"


def _recorded(site: Site, record: RolloutRecord) -> Iterator[str]:
    meaning, following = _MEANING[record.step]
    yield (
        f"model {site.name} in {site.repository}: version {record.new_version}, from {record.source}, follows version "
        f"{told(record.old_versions)}"
    )
    yield f"step: {record.step}, {meaning}"
    if record.gate is not None:
        limits = f"{record.gate.atol:g} + {record.gate.rtol:g} * |reference|"
        yield f"gate: {record.gate.rows} rows of {record.gate.reference} within {limits}; tables in {site.gate}"
    yield f"next: {following}"


def _wanted(record: RolloutRecord) -> list[int] | None:
    """Versions that the server should serve at the record's step; None while that is changing."""
    if record.step is RolloutStep.PROMOTED:
        return sorted(record.served)
    before = (RolloutStep.STAGING, RolloutStep.STAGED, RolloutStep.GATED)
    return sorted(record.old_versions) if record.step in before else None
