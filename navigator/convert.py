"""`model-navigator convert`: a stored model in other formats, each compared with the source on the same rows."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from deployment_toolkit import registry
from deployment_toolkit.core import Arrays, DataloaderModule, Format, Mnemonic, ModelSpec, Precision, ValueRange
from deployment_toolkit.errors import ConversionError, DeploymentError, UsageError
from deployment_toolkit.files import remove, replace_when_complete, require_free_space, size_bytes, write_text
from deployment_toolkit.params import Plugin, add_dataclass, from_args, keywords_for, load_module, option
from deployment_toolkit.sample_rows import first_rows, random_rows
from deployment_toolkit.tolerance import OutputComparison, Tolerance
from navigator.options import ModelOptions, WorkspaceOptions, key_value

logger = logging.getLogger("convert")

PLUGINS = (Plugin("dataloader", DataloaderModule, "get_dataloader_fn"),)
RESULTS = "convert_model_results.yaml"

_BATCH_SIZES = (1, 8, 64, 512)  # and the maximum
_SUFFIXES = {Format.TF_SAVEDMODEL: ".savedmodel", Format.ONNX: ".onnx"}
_SEED = 1


def _parse_range(text: str) -> ValueRange:
    low, _, high = text.partition(",")
    try:
        return int(low), int(high)
    except ValueError:
        raise ValueError(f"{text} is not low,high in whole numbers") from None


class LaunchMode(Mnemonic):
    """Where conversions run."""

    LOCAL = "local"
    DOCKER = "docker"


class State(Mnemonic):
    """What became of a conversion."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class ConvertOptions:
    """Options of this command beside those it shares with the other one and those of the dataloader."""

    output_path: Path = option("where the first success goes", aliases=("-o",))
    target_formats: list[Format] = option("formats to make, the best first", [Format.ONNX], nargs="+")
    launch_mode: LaunchMode = option("where conversions run", LaunchMode.LOCAL)
    onnx_opsets: list[int] = option("ONNX operator sets to try", [13], type=int, nargs="+")
    tensorrt_precisions: list[Precision] = option(
        "number formats to make", [Precision.FP32], aliases=("--target-precisions",), nargs="+"
    )
    atol: list[str] = option("absolute tolerance, for all outputs or as output=value", ["1e-5"], nargs="+")
    rtol: list[str] = option("relative tolerance, for all outputs or as output=value", ["1e-5"], nargs="+")
    max_batch_size: int = option("largest batch to compare at", 32)
    value_ranges: list[tuple[str, ValueRange]] = option(
        "lowest and highest value of an input, as input=low,high",
        [],
        type=key_value(convert_value=_parse_range),
        nargs="+",
        metavar="INPUT=LOW,HIGH",
    )
    dataloader: Path | None = option("module with get_dataloader_fn: real rows to compare on", None)

    def __post_init__(self) -> None:
        if self.max_batch_size < 1:
            raise UsageError(f"--max-batch-size must be at least 1, not {self.max_batch_size}")
        if self.launch_mode is LaunchMode.DOCKER:
            raise UsageError("--launch-mode docker: conversions run in this process here, give --launch-mode local")


@dataclass(frozen=True)
class Attempt:
    """One conversion to make."""

    format: Format
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Names its file and its log."""
        return "-".join([str(self.format), *(f"{key}{value}" for key, value in self.options.items())])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``ConvertOptions``."""
    add_dataclass(parser, ConvertOptions)


def run(args: argparse.Namespace) -> None:
    """Runs the command with its parsed options."""
    options, model = from_args(ConvertOptions, args), from_args(ModelOptions, args)
    workspace = from_args(WorkspaceOptions, args)
    if workspace.override_workspace:
        remove(workspace.workspace_path / "converted")
        remove(workspace.workspace_path / RESULTS)
    rows = None
    if options.dataloader is not None:
        get_dataloader_fn = load_module(options.dataloader, DataloaderModule).get_dataloader_fn
        dataloader_fn = get_dataloader_fn(**keywords_for(get_dataloader_fn, args))
        rows = first_rows(dataloader_fn, rows_needed(options.max_batch_size))
    convert(options, model.model_path, model.find_format(), workspace.workspace_path, rows)


def convert(options: ConvertOptions, source: Path, source_format: Format, workspace: Path, rows: Arrays | None) -> None:
    """Makes every attempt under ``workspace/converted``, records each in ``workspace/convert_model_results.yaml`` and
    copies the first success to the output path.

    ``rows`` are real inputs; without them random ones inside the value ranges are compared. Raises ConversionError if
    no attempt succeeded.
    """
    attempts = list_attempts(options, source_format)
    require_free_space(workspace, (len(attempts) + 1) * size_bytes(source), "the converted models")
    reference = Reference.of(source, source_format, options, rows)
    converted = workspace / "converted"
    converted.mkdir(parents=True, exist_ok=True)
    results = [_attempt(attempt, source, source_format, converted, reference) for attempt in attempts]
    write_text(workspace / RESULTS, yaml.safe_dump(results, sort_keys=False, width=120))
    first = next((result for result in results if result["status"]["state"] == str(State.SUCCEEDED)), None)
    if first is None:
        reasons = "; ".join(f"{result['name']}: {result['status']['message']}" for result in results)
        raise ConversionError(f"no conversion of {source} succeeded: {reasons}")
    copier = registry.converter(source_format, source_format)()
    with replace_when_complete(options.output_path) as beside:
        copier.convert(Path(first["path"]), beside)
    logger.info("wrote %s to %s", first["name"], options.output_path)


def list_attempts(options: ConvertOptions, source_format: Format) -> list[Attempt]:
    """The conversions that the options ask for. Raises UsageError if a format can't be made here at all."""
    attempts = []
    for target in options.target_formats:
        registry.converter(source_format, target)
        if options.tensorrt_precisions != [Precision.FP32]:
            told = ", ".join(map(str, options.tensorrt_precisions))
            raise UsageError(
                f"--target-precisions {told}: {target} keeps the precision it was exported with, give fp32"
            )
        made = target is Format.ONNX and source_format is not Format.ONNX
        attempts += [Attempt(target, {"opset": opset}) for opset in options.onnx_opsets] if made else [Attempt(target)]
    return attempts


@dataclass(frozen=True)
class Reference:
    """The source's answers to batches of several sizes."""

    spec: ModelSpec
    batches: list[Arrays]
    answers: list[Arrays]
    tolerances: dict[str, Tolerance]

    @classmethod
    def of(cls, source: Path, source_format: Format, options: ConvertOptions, rows: Arrays | None) -> Reference:
        """Asks the source; it is not kept in memory."""
        with registry.loader(source_format)().load(source) as session:
            spec = session.spec.with_value_ranges(dict(options.value_ranges))
            batches = _batches(spec, options.max_batch_size, rows)
            tolerances = _tolerances(options, [output.name for output in spec.outputs])
            logger.info(
                "comparing on batches of %s %s rows", [_rows(x) for x in batches], "random" if rows is None else "real"
            )
            return cls(spec, batches, [session.infer(x) for x in batches], tolerances)

    def compare(self, path: Path, model_format: Format) -> OutputComparison:
        """Asks a candidate the same. Raises ToleranceError if it answers differently."""
        comparison = OutputComparison(self.tolerances)
        with registry.loader(model_format)().load(path) as session:
            for x, answer in zip(self.batches, self.answers, strict=True):
                comparison.update(answer, session.infer(x))
        comparison.require_agreement(str(model_format))
        return comparison


def _attempt(
    attempt: Attempt, source: Path, source_format: Format, folder: Path, reference: Reference
) -> dict[str, Any]:
    """One conversion with its comparison, as an entry of the results file. What a user can mend is recorded."""
    path = folder / f"{attempt.name}{_SUFFIXES[attempt.format]}"
    log = folder / f"{attempt.name}.log"
    status: dict[str, Any] = {"state": str(State.SUCCEEDED), "message": "", "log_path": str(log)}
    handler = logging.FileHandler(log, mode="w")
    logging.getLogger().addHandler(handler)
    started = time.monotonic()
    try:
        logger.info("converting %s to %s", source, attempt.name)
        with replace_when_complete(path) as beside:
            registry.converter(source_format, attempt.format)(**attempt.options).convert(source, beside)
        logger.info("converted in %.1f s", time.monotonic() - started)
        comparison = reference.compare(path, attempt.format)
        status["message"] = f"{comparison.rows} rows agree, largest difference {comparison.max_abs_diff:.3g}"
        logger.info("%s: %s", attempt.name, status["message"])
    except DeploymentError as error:
        status.update(state=str(State.FAILED), message=str(error))
        logger.error("%s failed: %s", attempt.name, error)
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    return {
        "name": attempt.name,
        "format": str(attempt.format),
        "path": str(path),
        "seconds": round(time.monotonic() - started, 1),
        "status": status,
    }


def _batches(spec: ModelSpec, max_batch_size: int, rows: Arrays | None) -> list[Arrays]:
    """Consecutive rows in batches of 1, 8, 64, 512 and the maximum, as far as the maximum and the rows allow."""
    sizes = [size for size in _BATCH_SIZES if size < max_batch_size] + [max_batch_size]
    if rows is None:
        rows = random_rows(spec, sum(sizes), _SEED)
    batches, start = [], 0
    for size in sizes:
        batch = {name: np.ascontiguousarray(array[start : start + size]) for name, array in rows.items()}
        if _rows(batch):
            batches.append(batch)
        start += size
    return batches


def rows_needed(max_batch_size: int) -> int:
    """How many rows the comparison uses."""
    return sum(size for size in _BATCH_SIZES if size < max_batch_size) + max_batch_size


def _rows(x: Arrays) -> int:
    return len(next(iter(x.values())))


def _tolerances(options: ConvertOptions, outputs: Sequence[str]) -> dict[str, Tolerance]:
    atol, rtol = _per_output("--atol", options.atol, outputs), _per_output("--rtol", options.rtol, outputs)
    loose = [name for name in outputs if rtol[name] >= 1]
    if loose:
        logger.warning("--rtol %g of %s lets every answer pass that differs by its own size", rtol[loose[0]], loose[0])
    return {name: Tolerance(atol[name], rtol[name]) for name in outputs}


def _per_output(flag: str, values: Sequence[str], outputs: Sequence[str]) -> dict[str, float]:
    """``["1e-5", "a=0.1"]`` -> the value of each output. Raises UsageError for what is no tolerance or no output."""
    found: dict[str, float] = {}
    for text in values:
        name, _, number = text.rpartition("=")
        if name and name not in outputs:
            raise UsageError(f"{flag} {text}: the model has no output {name}, only {', '.join(outputs)}")
        try:
            value = float(number)
        except ValueError:
            raise UsageError(f"{flag} {text}: {number} is not a number") from None
        if not value >= 0:
            raise UsageError(f"{flag} {text}: a tolerance is at least 0")
        found |= dict.fromkeys([name] if name else outputs, value)
    return {name: found.get(name, 1e-5) for name in outputs}
