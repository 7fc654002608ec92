"""The steps of a roll-out. Each can be repeated after it was broken off, and none leaves a moment in which a version of
the model is not served."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn

from deployment_toolkit.deploying.model_repository import Package, add_package
from deployment_toolkit.deploying.warmup import FOLDER
from deployment_toolkit.errors import DeploymentError, ModelError, ToleranceError, UsageError
from deployment_toolkit.files.atomic import remove, replace_when_complete, write_text
from deployment_toolkit.files.scratch import remove_left
from deployment_toolkit.rollout.conditions import (
    candidate_package,
    require_as_before,
    require_ready_for,
    require_step,
    require_unchanged,
)
from deployment_toolkit.rollout.gating import GateRows, check_again, pass_gate
from deployment_toolkit.rollout.model_folder import (
    CONFIG,
    ModelFolder,
    config_as,
    digest_of,
    require_fit,
    warmup_files,
    why_not_beside,
)
from deployment_toolkit.rollout.record import RolloutRecord, RolloutStep, Site
from deployment_toolkit.rollout.serving import (
    load,
    ready_versions,
    serve_again,
    take_candidate_away,
    told,
)
from deployment_toolkit.rows.dump import Dump
from deployment_toolkit.rows.gate import GateLimits, MakeCalculator
from deployment_toolkit.triton_server.model_processes import load_anew

logger = logging.getLogger("rollout")

_BEFORE_PROMOTION = (RolloutStep.STAGING, RolloutStep.STAGED, RolloutStep.GATED)


def stage(site: Site, source: Path) -> RolloutRecord:
    """Copies the candidate, a model's folder with one version, into the repository and has the server load it under a
    name of its own, which no client knows. If it can't be loaded, nothing of it is left. Repeated on a server that was
    started anew, it loads the model, too.

    Raises UsageError if another roll-out of the model is under way, ModelError if the candidate can't follow the model.
    """
    record, live, candidate = site.record(), ModelFolder.read(site.live), ModelFolder.read(source)
    number = _next_number(site, live) if record is None else record.new_version
    package = candidate_package(site, candidate, candidate.only_version(), number)
    digest = digest_of(package)
    if record is None:
        require_ready_for(site, live)
        require_fit(candidate, live)
        _save_before(site, live)
        record = RolloutRecord(str(source.resolve()), digest, live.policy(), number, RolloutStep.STAGING)
        site.keep(record)
    elif record.digest != digest or record.step not in _BEFORE_PROMOTION:
        raise UsageError(
            f"a roll-out of model {site.name} is {record.step}, of {record.source}: finish it, or go back first"
        )
    serve_again(site, live.policy())
    try:
        add_package(site.repository, package)
        load(site, site.candidate_name, [number])
    except DeploymentError:
        with contextlib.suppress(DeploymentError):  # as of a server that has ended
            go_back(site)
        raise
    return record if record.step is RolloutStep.GATED else site.keep(record, RolloutStep.STAGED)


def gate(
    site: Site, reference: Dump, rows: GateRows, limits: GateLimits, calculator: MakeCalculator | None
) -> RolloutRecord:
    """Asks the candidate for the rows and compares its answers with the reference's; a server that was started anew
    loads both first. Raises ToleranceError if it fails; the model is served as before."""
    record = require_step(site, RolloutStep.STAGED, RolloutStep.GATED)
    record = site.keep(record, RolloutStep.STAGED, gate=None)  # what passed before counts no more
    require_unchanged(site, record)
    serve_again(site, ModelFolder.read(site.live).policy())
    load(site, site.candidate_name, [record.new_version])
    try:
        passed = pass_gate(site, record.new_version, reference, rows, limits, calculator)
    except ToleranceError as error:
        raise ToleranceError(
            f"version {record.new_version} of model {site.name} has not passed the gate, version "
            f"{told(record.old_versions)} is served as before: {error}"
        ) from error
    return site.keep(record, RolloutStep.GATED, gate=passed)


def promote(site: Site, *, alone: bool) -> RolloutRecord:
    """Has the server serve the candidate as the newest version of the model, which requests without a version get; then
    checks the rows of the gate once more. If it can't be loaded or answers otherwise, the versions before are served
    again. The versions before stay beside it, unless ``alone``: then requests for them are refused."""
    record = require_step(site, RolloutStep.GATED, RolloutStep.PROMOTING, RolloutStep.PROMOTED)
    if record.step is RolloutStep.PROMOTED:
        serve_again(site, record.served)
    else:
        record = _switch(site, record, alone=alone)
    take_candidate_away(site)
    return record


def go_back(site: Site) -> None:
    """Has the server serve the versions that the model had, and no other, and removes the candidate. Raises UsageError
    if no roll-out is under way, ServerError if the server can't."""
    record = require_step(site, *(step for step in RolloutStep if step is not RolloutStep.FINISHING))
    if record.step in _BEFORE_PROMOTION:
        take_candidate_away(site)
        serve_again(site, ModelFolder.read(site.live).policy())
    else:
        record = site.keep(record, RolloutStep.RETURNING)
        _serve_before(site, record)
        take_candidate_away(site)
    _forget(site)


def finish(site: Site) -> RolloutRecord:
    """Has the server serve the new version alone, and removes the versions before. There is no way back."""
    record = require_step(site, RolloutStep.PROMOTED, RolloutStep.FINISHING)
    take_candidate_away(site)
    record = site.keep(record, RolloutStep.FINISHING)
    live = ModelFolder.read(site.live)
    _serve_only(
        site, config_as(live.config, site.name, [record.new_version]), [record.new_version], record.old_versions
    )
    inputs = [item for batch in live.config.model_warmup for item in batch.inputs.values()]
    _keep_warmup(site.live, {item.input_data_file for item in inputs})
    _forget(site)
    return record


def _forget(site: Site) -> None:
    """Ends a roll-out: nothing of it is left, nor of commands of it that were killed."""
    for folder in (site.live, site.live / FOLDER, site.repository, site.folder.parent):
        remove_left(folder)
    site.forget()


def _switch(site: Site, record: RolloutRecord, *, alone: bool) -> RolloutRecord:
    package = _promoted_package(site, record, alone=alone)
    passed = record.gate
    assert passed is not None, "the step is gated only after a gate"
    Dump(Path(passed.reference))  # a missing dump is told before anything is done
    require_unchanged(site, record)
    if record.step is RolloutStep.GATED:
        require_as_before(site, ModelFolder.read(site.live))
    record = site.keep(record, RolloutStep.PROMOTING, alone=alone)
    try:
        add_package(site.repository, package)
        load(site, site.name, record.served)
        check_again(site, record.new_version, passed)
    except DeploymentError as error:
        _undo(site, record, error)
    return site.keep(record, RolloutStep.PROMOTED)


def _undo(site: Site, record: RolloutRecord, error: DeploymentError) -> NoReturn:
    """Goes back to before the promotion that has failed with ``error``, which it raises with what is served now."""
    told_so = f"version {record.new_version} of model {site.name} is not promoted"
    try:
        _serve_before(site, record)
    except DeploymentError as further:
        raise type(further)(f"{told_so}: {error}; going back failed too: {further}; repeat promote or back") from error
    site.keep(record, RolloutStep.GATED, alone=False)
    raise type(error)(f"{told_so}, version {told(record.old_versions)} is served as before: {error}") from error


def _promoted_package(site: Site, record: RolloutRecord, *, alone: bool) -> Package:
    """The candidate as a version of the model, by hard links, so that the C++ host shares its memory. Raises ModelError
    if the versions before can't be served beside it."""
    staged = ModelFolder.read(site.staged)
    before = ModelFolder.read(site.before)
    other = why_not_beside(staged.config, before.config)
    if other is not None and not alone:
        raise ModelError(
            f"version {told(record.old_versions)} of model {site.name} can't be served beside version "
            f"{record.new_version}, a model has one configuration and theirs differ in {other}: give --alone if no "
            f"client asks for version {told(record.old_versions)} by its number"
        )
    number = record.new_version
    policy = [number] if alone else [*record.old_versions, number]
    return staged.package(number, name=site.name, number=number, policy=policy, links=True)


def _serve_before(site: Site, record: RolloutRecord) -> None:
    """Has the server serve the versions before with their configuration, and removes the new one's files."""
    warmup = warmup_files(site.before)
    _write_warmup(site.live, warmup)
    _serve_only(site, ModelFolder.read(site.before).text, record.old_versions, [record.new_version])
    _keep_warmup(site.live, warmup)


def _serve_only(site: Site, config: str, versions: Sequence[int], others: Sequence[int]) -> None:
    """Has the server serve these versions with this configuration, then removes the folders of the others."""
    if ModelFolder.read(site.live).text != config:
        write_text(site.live / CONFIG, config)
    load(site, site.name, versions)  # at once, the versions that are loaded stay as they are
    for version in others:
        remove(site.live / str(version))
    # The server still tells of the configuration with which they were loaded, which names the others, and a later
    # deployment would take it for another one. So it makes them anew, behind those that answer.
    load_anew(site.live)
    load(site, site.name, versions)


def _next_number(site: Site, live: ModelFolder) -> int:
    """A number above all others, so that requests without a version get it."""
    return max([*live.numbers, *ready_versions(site, site.name)], default=0) + 1


def _save_before(site: Site, live: ModelFolder) -> None:
    with replace_when_complete(site.before, replaces_all=True) as beside:
        beside.mkdir(parents=True)
        (beside / CONFIG).write_text(live.text)
        (beside / FOLDER).mkdir()
        for name, content in live.warmup.items():
            (beside / FOLDER / name).write_bytes(content)


def _write_warmup(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        with replace_when_complete(folder / FOLDER / name) as beside:
            beside.write_bytes(content)


def _keep_warmup(folder: Path, names: Collection[str]) -> None:
    """Removes other files of rows for the warm-up, which belong to versions that are not served any more."""
    for name in warmup_files(folder).keys() - set(names):
        remove(folder / FOLDER / name)
    with contextlib.suppress(OSError):
        (folder / FOLDER).rmdir()  # if it is empty
