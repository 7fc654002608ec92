"""Command `model-navigator convert`: converts a stored model to other formats and compares each with the source."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deployment_toolkit.core import Format, Mnemonic
from deployment_toolkit.errors import ConversionError, DeploymentError, DeviceError, UsageError
from deployment_toolkit.files.atomic import (
    remove,
    replace_when_complete,
    require_free_space,
    require_writable,
    write_text,
)
from deployment_toolkit.hardware import require_gpu
from deployment_toolkit.library import registry
from deployment_toolkit.library.base import CopyModel
from deployment_toolkit.library.model_files import same_model, stored_bytes
from deployment_toolkit.options.command_line import DATALOADER
from deployment_toolkit.options.params import add_dataclass, from_args, option
from navigator.attempts import Attempt, TargetOptions, list_attempts
from navigator.calibration import CalibrationOptions
from navigator.comparison import ComparisonOptions
from navigator.conversions import Conversions, logged_to, step_path
from navigator.job import CONVERTED, STATE, ConversionJob
from navigator.options import ContainerOptions, ModelOptions, TensorRTOptions, WorkspaceOptions, given, tell_unused
from navigator.other_converter.converter import read_summary, require_library
from navigator.other_converter.plan import LIBRARY, ConverterKind, by_library
from navigator.profiles import ShapeOptions
from navigator.results_keys import attempt_keys, note_image, output_model

logger = logging.getLogger("convert")

PLUGINS = (DATALOADER,)
NOTES = {
    "model_version": "noted in the results only",
    "inputs": "the model has a signature; here to rename inputs of the result, or to fix open dimensions",
    "outputs": "the model has a signature; here to rename outputs of the result",
    "container_version": "for --launch-mode docker only",
    "framework_docker_image": "for --launch-mode docker only",
    "triton_docker_image": "for --launch-mode docker only",
    "gpus": "for --launch-mode docker only",
    "tensorrt_max_workspace_size": "for the targets trt and tf-trt",
}
RESULTS = "convert_model_results.yaml"


class LaunchMode(Mnemonic):
    """Place of conversions."""

    LOCAL = "local"
    DOCKER = "docker"


class ConversionState(Mnemonic):
    """State of a conversion."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class ConverterLaunchOptions:
    """Options of the place of conversions and of their containers."""

    output_path: Path | None = option("path for the first successful conversion", None, aliases=("-o",))
    launch_mode: LaunchMode = option("place of the conversions", LaunchMode.LOCAL)
    override_conversion_container: bool = option("build the container again; for --launch-mode docker only", False)
    dataloader: Path | None = option("module with get_dataloader_fn: real rows to compare on", None)
    converter: ConverterKind = option(
        "who converts: this project, or the library triton-model-navigator (installed by scripts/install.sh "
        "--model-navigator), for onnx, trt and tf-trt",
        ConverterKind.OWN,
    )

    def __post_init__(self) -> None:
        if self.converter is not ConverterKind.OWN and self.launch_mode is LaunchMode.DOCKER:
            raise UsageError(f"--converter {self.converter} works with --launch-mode local only: leave out one of them")


_GROUPS = (ConverterLaunchOptions, TargetOptions, CalibrationOptions, ComparisonOptions, ShapeOptions)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this command's own options."""
    for group in _GROUPS:
        add_dataclass(parser, group)


def run(args: argparse.Namespace) -> int:
    """Runs the command with its parsed options: here, or in a container. Returns the exit code."""
    if args.launch_mode is LaunchMode.DOCKER:
        return _convert_in_container(args)
    convert(args)
    return 0


def _convert_in_container(args: argparse.Namespace) -> int:
    from navigator.containers.container import ContainerJob, base_image  # inside a container there is no Docker SDK

    launch, model = from_args(ConverterLaunchOptions, args), from_args(ModelOptions, args)
    source, targets = model.find_format(), from_args(TargetOptions, args).target_formats
    written = [from_args(WorkspaceOptions, args).workspace_path]
    if launch.output_path is not None:
        written.append(launch.output_path.parent)
    job = ContainerJob(args.command_line, source, targets, written, list(vars(args).values()))
    containers, results = from_args(ContainerOptions, args), written[0] / RESULTS
    before = _changed(results)
    code = job.run(containers, anew=launch.override_conversion_container)
    if _changed(results) != before:
        note_image(results, base_image(containers, targets))
    return code


def _changed(path: Path) -> int:
    """Time at which a file was written, 0 if there is none."""
    return path.stat().st_mtime_ns if path.is_file() else 0


def convert(args: argparse.Namespace) -> None:
    """Makes every attempt under ``{workspace}/converted``, or finds it there, records each in
    ``{workspace}/convert_model_results.yaml`` and copies the first success to the output path.

    Raises ConversionError if no attempt succeeded; UsageError, ModelError or DataError before the workspace is touched
    if options, model or rows are wrong.
    """
    launch, model = from_args(ConverterLaunchOptions, args), from_args(ModelOptions, args)
    containers = given(from_args(ContainerOptions, args)) + given(launch, "override_conversion_container")
    tell_unused(containers, "containers are for --launch-mode docker")
    source_format = model.find_format()
    if launch.output_path is not None:
        require_writable(launch.output_path)
    attempts = _list_attempts(args, launch.converter, source_format)
    gpus, without_gpu = _find_gpus(attempts)
    feasible = [attempt for attempt in attempts if gpus or not attempt.needs_gpu]
    job = ConversionJob.prepare(args, source_format, feasible, gpus) if feasible else None
    folder = _open_workspace(from_args(WorkspaceOptions, args))
    require_free_space(
        folder, launch.converter.sizes(len(feasible)) * stored_bytes(model.model_path), "the converted models"
    )
    (folder / CONVERTED).mkdir(parents=True, exist_ok=True)
    conversions = job.conversions(folder) if job else None
    results = []
    for attempt in attempts:
        log_path = folder / CONVERTED / f"{attempt.name}.log"
        entry: dict[str, Any] = {
            "model_name": model.model_name,
            "model_version": model.model_version,
            "name": attempt.name,
            "format": str(attempt.format),
            "path": str(step_path(folder / CONVERTED, attempt.steps[-1])),
            "converter": str(launch.converter),
            **attempt_keys(args, source_format, attempt),
            "output_model": None,
        }
        with logged_to(log_path):
            entry |= _try(attempt, job, conversions, without_gpu)
        entry["status"]["log_path"] = str(log_path)
        if job is not None and entry["status"]["state"] == str(ConversionState.SUCCEEDED):
            made = Path(entry["path"])
            entry["output_model"] = output_model(model.model_name, made, attempt.format, job.signature.spec)
        results.append(entry)
        write_text(folder / RESULTS, yaml.safe_dump(results, sort_keys=False, width=120))
    _hand_over(results, model.model_path, launch.output_path)


def _list_attempts(args: argparse.Namespace, converter: ConverterKind, source: Format) -> list[Attempt]:
    targets = from_args(TargetOptions, args)
    attempts = list_attempts(targets, source, from_args(TensorRTOptions, args))
    if converter is ConverterKind.OWN:
        return attempts
    attempts = by_library(attempts, targets, source)
    require_library()
    return attempts


def _find_gpus(attempts: Sequence[Attempt]) -> tuple[list[str], str]:
    """Names of the GPUs, looked up only if an attempt needs one, and the error message if there is none."""
    needing = list(dict.fromkeys(str(attempt.format) for attempt in attempts if attempt.needs_gpu))
    if not needing:
        return [], ""
    try:
        return require_gpu(f"a conversion to {' and '.join(needing)}"), ""
    except DeviceError as error:
        return [], str(error)


def _open_workspace(options: WorkspaceOptions) -> Path:
    if options.override_workspace:
        for name in (CONVERTED, RESULTS, STATE):
            remove(options.workspace_path / name)
    return options.workspace_path


def _try(
    attempt: Attempt, job: ConversionJob | None, conversions: Conversions | None, without_gpu: str
) -> dict[str, Any]:
    """Runs one conversion with its comparison; returns its entry of the results file. Errors that the user can fix are
    recorded."""
    started = time.monotonic()
    entry: dict[str, Any] = {}
    state, message = ConversionState.SUCCEEDED, ""
    try:
        if job is None or conversions is None or (without_gpu and attempt.needs_gpu):
            raise DeviceError(without_gpu)
        made = conversions.make(job.steps(attempt))
        entry["conversion"] = _reused(made.reused)
        if attempt.steps[-1].by_library:
            entry[LIBRARY] = read_summary(made.path)
        reduced = attempt.reduced_precision is not None
        message, known = conversions.compare(attempt.name, made, job.comparison, reduced=reduced)
        entry["comparison"] = _reused(known)
        if reduced:
            message = "; ".join(filter(None, (message, registry.loader(made.format)().describe(made.path))))
        logger.info("%s: %s", attempt.name, message)
    except DeploymentError as error:
        state, message = ConversionState.FAILED, " ".join(str(error).split())
        logger.error("%s failed: %s", attempt.name, error)
    entry["seconds"] = round(time.monotonic() - started, 1)
    return {**entry, "status": {"state": str(state), "message": message}}


def _reused(before: bool) -> str:
    return "reused" if before else "made"


def _hand_over(results: Sequence[dict[str, Any]], source: Path, output_path: Path | None) -> None:
    first = next((result for result in results if result["status"]["state"] == str(ConversionState.SUCCEEDED)), None)
    if first is None:
        reasons = "; ".join(f"{result['name']}: {result['status']['message']}" for result in results)
        raise ConversionError(f"no conversion of {source} succeeded: {reasons}")
    made = Path(first["path"])
    if output_path is None:
        logger.info("%s is in %s", first["name"], made)
    elif same_model(made, output_path):
        logger.info("%s is at %s already", first["name"], output_path)
    else:
        with replace_when_complete(output_path) as beside:
            CopyModel().convert(made, beside)
        logger.info("wrote %s to %s", first["name"], output_path)
