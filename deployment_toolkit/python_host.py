"""Model host for Triton's Python backend: a framework session behind the server's queue.

A model repository's ``model.py`` imports it inside the backend's process, the only place that has
``triton_python_backend_utils``. Every instance is a separate process with its own session.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from deployment_toolkit.core import Arrays, Format, ModelSpec, Precision
from deployment_toolkit.deploying.deployment import GPU_HOSTED
from deployment_toolkit.errors import DeploymentError, DeviceError, InputError, ModelError
from deployment_toolkit.files.checksums import CHECKSUMS, require_unchanged
from deployment_toolkit.library.base import FrameworkSession
from deployment_toolkit.library.registry import loader
from deployment_toolkit.machine import usable_cores
from deployment_toolkit.python_backend import tensors
from deployment_toolkit.python_backend.request_check import RequestCheck
from deployment_toolkit.rows.batches import join
from deployment_toolkit.rows.request_sizes import load_sizes
from deployment_toolkit.rows.size_check import GPU_TOLERANCE, TOLERANCES, SizeComparison
from deployment_toolkit.rows.valid_values import ValidValues
from deployment_toolkit.triton_server.config_keys import (
    ACCEPTED,
    MODEL_FILE,
    MODEL_FORMAT,
    MODEL_SPEC,
    NON_FINITE,
    THREADS,
)

_PATIENCE_S = 20.0  # limit of the check of many request sizes for a slow model, since callers wait for the server


class TritonPythonModel:
    """Class that the Python backend calls: ``initialize``, ``execute``, ``finalize``."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model that the configuration's parameters name, onto this instance's device: a GPU, or the CPU with
        ``threads`` or else this instance's share of the cores. Before that, known tensors must pass the backend as they
        are, and the model's files must have the checksums with which they were deployed. After it, the model gets the
        same rows in requests of many sizes; a model that answers them differently is refused."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        path = Path(args["model_repository"]) / args["model_version"] / parameters[MODEL_FILE]
        instances = sum(group["count"] for group in config["instance_group"])
        threads = int(parameters.get(THREADS, max(1, usable_cores() // instances)))
        spec = ModelSpec.read(parameters[MODEL_SPEC], MODEL_SPEC)
        self._check = RequestCheck(spec)
        self._valid = ValidValues(spec, finite=parameters.get(NON_FINITE) != ACCEPTED)
        try:
            tensors.prepare(spec)
            compare_files(args)
            on_gpu = _gpu(args, Format(parameters[MODEL_FORMAT]))
            model_loader = loader(Format(parameters[MODEL_FORMAT]))(threads=threads, **on_gpu)
            self._session = model_loader.load(path)
            where = f"on GPU {on_gpu['device']}" if on_gpu else f"with {threads} threads"
            pb_utils.Logger.log_info(f"{args['model_instance_name']}: {path.name} {where}")
            told = _compare_sizes(
                self._session,
                spec,
                config["max_batch_size"],
                on_gpu=bool(on_gpu),
                precision=lambda: model_loader.precision(path),
            )
            pb_utils.Logger.log_info(f"{args['model_instance_name']}: {told}")
        except DeploymentError as error:
            raise pb_utils.TritonModelException(_one_line(error)) from None

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Returns one response per request, in order. An error in one request is the answer to that request only."""
        answers: dict[int, Any] = {}
        batches: dict[int, Arrays] = {}
        rows: list[int] = []
        for index, request in enumerate(requests):
            try:
                x = tensors.inputs(request)
                rows.append(self._check.rows(x, next(iter(batches.values()), None)))
                batches[index] = x
            except Exception as error:  # as an input in a GPU's memory
                answers[index] = _failure(error)
        try:
            x = join(list(batches.values()))
            if x and not self._valid.hold(x):
                answers |= _refuse(self._valid, batches)
                rows = [count for index, count in zip(batches, rows, strict=True) if index not in answers]
                x = join([batch for index, batch in batches.items() if index not in answers])
            answered = self._answer(x, rows)
        except Exception as error:  # any error of the runtime becomes the answer, and the server goes on
            answered = [_failure(error) for _ in range(len(requests) - len(answers))]
        remaining = iter(answered)
        return [answers[index] if index in answers else next(remaining) for index in range(len(requests))]

    def finalize(self) -> None:
        """Frees the model."""
        self._session.__exit__(None, None, None)
        del self._session

    def _answer(self, x: Arrays, rows: Sequence[int]) -> list[Any]:
        """Runs the batch once and returns a response per request, with its rows as views."""
        if not rows:
            return []
        y = self._session.infer_impl(x)
        ends = list(itertools.accumulate(rows))
        return [
            pb_utils.InferenceResponse(tensors.outputs({name: array[end - count : end] for name, array in y.items()}))
            for count, end in zip(rows, ends, strict=True)
        ]


def compare_files(args: dict[str, str]) -> None:
    """Compares the files in the model's version folder with their checksums: before a parser reads a damaged file.
    Raises ModelError, which names the file, if one was changed since the model was deployed."""
    started = time.monotonic()
    folder = Path(args["model_repository"]) / args["model_version"]
    if require_unchanged(folder):
        told = f"the files have their checksums, compared in {time.monotonic() - started:.1f} s"
    else:
        told = f"{folder} has no {CHECKSUMS}: its files are not compared"
    pb_utils.Logger.log_info(f"{args['model_instance_name']}: {told}")


def _gpu(args: dict[str, str], model_format: Format) -> dict[str, int]:
    """Loader's keyword ``device``, the CUDA index of this instance's GPU; empty on the CPU. Raises DeviceError for a
    format that runs only on the CPU."""
    if args["model_instance_kind"] != "GPU":
        return {}
    if model_format not in GPU_HOSTED:
        raise DeviceError(f"the Python host runs {model_format} on a cpu only: give engines for cpu")
    return {"device": int(args["model_instance_device_id"])}


def _compare_sizes(
    session: FrameworkSession,
    spec: ModelSpec,
    max_batch_size: int,
    *,
    on_gpu: bool,
    precision: Callable[[], Precision],
) -> str:
    """Sends the same rows in requests of many sizes; returns a phrase with the result. Raises SizeError if the answers
    differ, ModelError if the model fails on a size. If the server doesn't batch, the model may accept only a single
    row, so the phrase reports the failure instead."""
    started = time.monotonic()
    wanted = load_sizes(max_batch_size)
    try:
        comparison = SizeComparison(session.infer_impl, spec, wanted, _PATIENCE_S)
    except ModelError as error:
        if max_batch_size:
            raise
        return f"sizes of requests are not compared: {_one_line(error)}"
    tolerance = GPU_TOLERANCE if on_gpu else TOLERANCES[Precision.FP32]
    if comparison.largest > tolerance:  # reading the file again costs time, so only then
        tolerance = max(tolerance, TOLERANCES[precision()])
    comparison.require(tolerance)
    sizes, missing = comparison.sizes, len(wanted) - len(comparison.sizes)
    return (
        f"the same rows in {len(sizes)} sizes of requests, up to {sizes[-1]} rows, answered alike within "
        f"{comparison.largest:.2g} of the largest answer, in {time.monotonic() - started:.1f} s"
        + (f"; {missing} larger ones are left out, they would take more than {_PATIENCE_S:g} s" if missing else "")
    )


def _refuse(valid: ValidValues, batches: Mapping[int, Arrays]) -> dict[int, Any]:
    """Answers for the requests with values that the model does not take, by position."""
    refused = {}
    for index, batch in batches.items():
        try:
            valid.require(batch)
        except InputError as error:
            refused[index] = _failure(error)
    return refused


def _failure(error: Exception) -> Any:
    code = pb_utils.TritonError.INVALID_ARG if isinstance(error, InputError) else pb_utils.TritonError.INTERNAL
    return pb_utils.InferenceResponse([], pb_utils.TritonError(_one_line(error), code))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
