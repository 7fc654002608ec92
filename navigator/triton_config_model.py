"""Command ``model-navigator triton-config-model``: puts a model with a complete configuration into a server's
repository, and loads it on request."""

from __future__ import annotations

import argparse
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from deployment_toolkit.core import Format
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.loading import is_running, load_and_check
from deployment_toolkit.deploying.model_repository import RepositoryOptions, add_model
from deployment_toolkit.deploying.queue_policy import INSTANCES
from deployment_toolkit.errors import BackendError, DeploymentError, InferenceError
from deployment_toolkit.files.atomic import remove, require_writable, write_text
from deployment_toolkit.options.params import add_dataclass, from_args
from deployment_toolkit.options.plugins import Plugin
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.base import NO_PROCESS
from deployment_toolkit.triton_server.model_processes import load_anew
from navigator.deployments import MADE, Choice, ConfigOptions, Sources, find_choices
from navigator.options import ContainerOptions, WorkspaceOptions, given, tell_unused
from navigator.queue_options import QueueOptions, WarmupOptions
from navigator.results_keys import deployment_keys

logger = logging.getLogger("model-navigator")

PLUGINS: tuple[Plugin, ...] = ()
NOTES = {
    "model_version": "the folder it gets in the repository",
    "inputs": "by the name before =, which convert gave it",
    "outputs": "by the name before =, which convert gave it",
    "container_version": "here: the one that serves a TensorRT plan",
    "framework_docker_image": "no effect here, for convert",
    "triton_docker_image": "here: a TensorRT plan of another TensorRT version or GPU than its server's is refused",
    "gpus": "no effect here, for convert",
    "tensorrt_max_workspace_size": "for --backend-accelerator trt",
}
RESULTS_FILE = "triton_config_model_results.yaml"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this command's own options."""
    add_dataclass(parser, RepositoryOptions)
    for group in (AccessOptions, ConfigOptions, QueueOptions, WarmupOptions):
        add_dataclass(parser, group)


def run(args: argparse.Namespace) -> int:
    """Writes the model into the repository, loads it on request, and records the outcome in the workspace."""
    workspace, target = from_args(WorkspaceOptions, args), from_args(RepositoryOptions, args)
    access = from_args(AccessOptions, args)
    url = access.url(target.server_url)
    results_path = workspace.workspace_path / RESULTS_FILE
    if workspace.override_workspace:
        remove(results_path)
        remove(workspace.workspace_path / MADE)
    require_writable(results_path)
    containers = from_args(ContainerOptions, args)
    tell_unused(given(containers, "framework_docker_image", "gpus"), "no container is started")
    if not target.load_model:
        asked = given(target, "load_model_timeout_s", "model_control_mode", "server_url") + access.given
        tell_unused(asked, "they are for --load-model")
    started = time.monotonic()
    result: dict[str, Any] = {"model_name": args.model_name, "model_version": args.model_version}
    result |= deployment_keys(args)
    try:
        choices = find_choices(args, with_others=target.load_model)
        _tell_queue(choices[0].deployment)
        _require_servable(args.model_path, choices[0].source_format, containers)
        sources = Sources(args.model_path, workspace.workspace_path)
        _deploy(choices, target, url, sources, result, started_anew=workspace.override_workspace)
    except DeploymentError as error:
        _record(results_path, result, "failed", " ".join(str(error).split()), started)
        raise
    _record(results_path, result, "succeeded", "loaded and answering" if target.load_model else "configured", started)
    return 0


def _tell_queue(deployment: Deployment) -> None:
    if not deployment.queue.is_set:
        return
    logger.info("queue of model %s: %s", deployment.name, deployment.queue)
    if sum(deployment.engine_count_per_device.values()) < INSTANCES:
        logger.warning(
            "a queue with limits or priorities before one instance: Triton may notice a request up to half a second "
            "late; --engine-count-per-device cpu=%d helps",
            INSTANCES,
        )


def _require_servable(source: Path, model_format: Format, containers: ContainerOptions) -> None:
    named = given(containers, "container_version", "triton_docker_image")
    if model_format is not Format.TRT:
        tell_unused(named, f"a server's image is asked for a TensorRT plan, not for {model_format}")
    elif containers.server_image is not None:
        from navigator.containers.plan_check import require_servable  # without an image no Docker SDK is needed

        require_servable(source, containers.server_image)


def _deploy(
    choices: list[Choice],
    target: RepositoryOptions,
    url: ServerUrl,
    sources: Sources,
    result: dict[str, Any],
    *,
    started_anew: bool,
) -> None:
    """Deploys the first choice, and the next if the server has no backend for it; records the outcome in ``result``. A
    later choice that the server runs already is kept, unless ``started_anew``."""
    if target.load_model and not started_anew:
        running = next((choice for choice in choices[1:] if is_running(url, choice.deployment)), None)
        choices = choices if running is None else [running]
    for choice in choices:
        deployment = choice.deployment
        placed = add_model(target.model_repository, deployment, sources.model_for(choice))
        result["model_config"]["model_format"] = str(choice.source_format)
        result |= {"model_dir_in_model_store": str(placed.folder)}
        result |= {"model_path": str(placed.folder), "host": str(deployment.host), "format": str(deployment.format)}
        result |= {"dropped": choice.dropped, "model": _done(placed.copied), "config": _done(placed.configured)}
        logger.info("model %s is in %s: files %s", deployment.name, placed.folder, _done(placed.copied))
        if choice.dropped:
            logger.info("host %s: left out %s", deployment.host, ", ".join(choice.dropped))
        deployments = [deployment]
        if choice.second is not None:
            source = placed.folder / str(deployment.version) / deployment.model_file
            add_model(target.model_repository, choice.second, source, links=True)
            deployments.append(choice.second)
        if not target.load_model:
            return
        try:
            for wanted in deployments:
                _load(wanted, target, url)
            return
        except BackendError as error:
            if choice is choices[-1]:
                raise
            following = choices[choices.index(choice) + 1].deployment.host
            logger.warning("%s; deploying it again with --host %s", error, following)


def _load(deployment: Deployment, target: RepositoryOptions, url: ServerUrl) -> None:
    """Loads a deployment; a second time if the server had it loaded already and its process has ended since."""
    load = partial(
        load_and_check,
        url,
        deployment,
        method=target.model_control_mode,
        timeout_s=target.load_model_timeout_s,
    )
    try:
        load()
    except InferenceError as error:
        if NO_PROCESS not in str(error):
            raise
        logger.warning("%s; it is loaded anew", error)
        load_anew(target.model_repository / deployment.name)
        load()


def _done(written: bool) -> str:
    return "written" if written else "reused"


def _record(path: Path, result: dict[str, Any], state: str, message: str, started: float) -> None:
    seconds = round(time.monotonic() - started, 2)
    status = {"state": state, "message": message, "seconds": seconds}
    write_text(path, yaml.safe_dump([{**result, "status": status}], sort_keys=False))
