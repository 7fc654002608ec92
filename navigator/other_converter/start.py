"""One call of triton-model-navigator's ``optimize``, with the options of a job file.

This script runs in the library's virtual environment, so it imports nothing of this project. It leaves the model in
the library's workspace, and the library's package and a summary where the job says. If the library fails, the last line
of stderr says why, after ``error:``.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import sys
import traceback
import types
from pathlib import Path
from typing import Any

import model_navigator as nav
import numpy as np
import tensorflow as tf
from model_navigator.commands import execution_context
from model_navigator.utils import environment

_ERROR = re.compile(r"^\s*[\w.]*(?:Error|Exception)\w*: .+$", re.MULTILINE)
_KILLED = re.compile(r"(?:error code:|exited with) (?:137|-9)\b")
_CHECKED, _PROFILED = "Correctness", "Performance"
_TRIALS = 30  # until a profile settles; the library's 10 are too few on a machine that does other work
_RUNNERS = {"onnx": "OnnxCPU", "trt": "TensorRT", "tf-trt": "TensorFlowTensorRT"}


class StoredModel:
    """A SavedModel with the methods of a Keras model that the library calls. Its export is a copy."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._loaded = tf.saved_model.load(path)  # the signature lives as long as this
        self._signature = self._loaded.signatures["serving_default"]

    def __call__(self, inputs: dict[str, Any]) -> Any:
        return self._signature(**inputs)

    def predict(self, inputs: dict[str, Any], verbose: int = 0) -> dict[str, Any]:
        answers = self({name: tf.constant(array) for name, array in inputs.items()})
        return {name: tensor.numpy() for name, tensor in answers.items()}

    def export(self, filepath: str) -> None:
        shutil.copytree(self._path, filepath)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    workspace, said = Path(job["workspace"]), _keep_output_of_commands()
    environment._get_packages = _installed  # the library asks for a pip, which may not be there
    try:
        package = _optimize(job, workspace)
    except Exception as error:  # whatever the library raises is its reason
        traceback.print_exc()
        sys.exit(f"error: {_reason(workspace / 'navigator.log') or error}")
    models = list(package.status.models_status.values())
    made = next(model for model in models if model.model_config.format.value == job["target"])
    path = workspace / made.model_config.path
    failed = next((model for model in models if "FAIL" in _statuses(model).values()), None)
    if failed is not None or not path.exists():
        log = workspace / (failed or made).model_config.path.parent / "format.log"
        sys.exit(f"error: {_failed_command(failed or made)}: {_words(log, said)}")
    nav.package.save(package, job["package"], override=True)
    Path(job["summary"]).write_text(json.dumps({"model": str(path), **_summary(made)}))


def _optimize(job: dict[str, Any], workspace: Path) -> Any:
    samples = [dict(np.load(path)) for path in job["samples"]]
    on_cpu = job["target"] == "onnx"
    common = {
        "dataloader": samples,
        "sample_count": len(samples),
        "target_device": nav.DeviceKind.CPU if on_cpu else nav.DeviceKind.CUDA,
        "runners": (_RUNNERS[job["target"]],),
        "optimization_profile": nav.OptimizationProfile(max_batch_size=job["max_batch_size"], max_trials=_TRIALS),
        "custom_configs": _configs(job),
        "workspace": workspace,
    }
    if job["source_format"] == "onnx":
        return nav.onnx.optimize(model=Path(job["source"]), target_formats=("onnx", job["target"]), **common)
    between = ("onnx",) if job["target"] == "trt" else ()
    return nav.tensorflow.optimize(
        model=StoredModel(job["source"]),
        input_names=tuple(job["inputs"]),
        output_names=tuple(job["outputs"]),
        target_formats=("tf-savedmodel", *between, job["target"]),
        **common,
    )


def _configs(job: dict[str, Any]) -> list[Any]:
    configs = [nav.OnnxConfig(opset=job["opset"])] if job["opset"] is not None else []
    if job["target"] == "onnx":
        return configs
    profile = nav.TensorRTProfile()
    for name, shapes in job["profiles"].items():
        profile.add(name, *(tuple(shape) for shape in shapes))
    make = nav.TensorRTConfig if job["target"] == "trt" else nav.TensorFlowTensorRTConfig
    limits = {"trt_profiles": [profile], "max_workspace_size": job["max_workspace_size_bytes"]}
    return [*configs, make(precision=(job["precision"],), precision_mode=job["precision_mode"], **limits)]


def _summary(model: Any) -> dict[str, Any]:
    """The library's own comparison, None if it failed, and its profile."""
    (runner,) = model.runners_status.values()
    checked, profiled = (runner.result.get(command, {}) for command in (_CHECKED, _PROFILED))
    found = checked.get("per_output_tolerance")
    return {
        "runner": runner.runner_name,
        "comparison": None
        if found is None
        else {name: {"atol": one.atol, "rtol": one.rtol} for name, one in found.items()},
        "profile": [
            {"batch_size": one.batch_size, "rows_per_s": one.throughput, "average_ms": one.avg_latency}
            for one in profiled.get("profiling_results", ())
        ],
        "tensorrt": getattr(sys.modules.get("tensorrt"), "__version__", None),
    }


def _statuses(model: Any) -> dict[str, str]:
    return {command: status.value for command, status in model.status.items()}


def _failed_command(model: Any) -> str:
    return next((command for command, status in _statuses(model).items() if status == "FAIL"), "optimize")


def _installed() -> dict[str, str]:
    return {package.name: package.version for package in importlib.metadata.distributions()}


def _keep_output_of_commands() -> list[str]:
    """Output of programs that fail, as tf2onnx; release 0.14 means to log it and loses it."""
    outputs: list[str] = []

    def indent(text: str, prefix: str) -> str:
        outputs.append(text)
        return text

    execution_context.textwrap = types.SimpleNamespace(indent=indent)
    return outputs


def _words(log: Path, said: list[str]) -> str:
    """Why a command failed, from its log and the output of the programs that failed."""
    if log.exists() and _KILLED.search(log.read_text()):
        return "its process was killed, as the system does when memory runs out"
    return _last_line(said) or _reason(log) or "there is no model and no reason"


def _last_line(outputs: list[str]) -> str:
    lines = [line.strip() for text in outputs[-1:] for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _reason(log: Path) -> str:
    """Last error in a log of the library: not the one in which it wraps others, if there is another."""
    text = log.read_text() if log.exists() else ""
    found = [match[0].strip() for match in _ERROR.finditer(text)]
    own = [line for line in found if not line.startswith("model_navigator.")]
    return (own or found or [""])[-1]


if __name__ == "__main__":
    main()
