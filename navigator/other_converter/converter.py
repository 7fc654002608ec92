"""triton-model-navigator as a converter: its ``optimize`` runs in a process of the library's own virtual environment
(``scripts/install.sh --model-navigator``), and what it made becomes a model with this project's signature.

Its comparison, its profile, its logs and its ``.nav`` package are kept in a folder beside the model.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Arrays, Format, ModelSpec
from deployment_toolkit.errors import ConversionError, DataError, ProcessError, UsageError
from deployment_toolkit.files import fingerprint
from deployment_toolkit.files.atomic import replace_when_complete, size_words
from deployment_toolkit.files.texts import read_json
from deployment_toolkit.library.model_files import stored_bytes
from deployment_toolkit.library.shape_profile import ShapeProfile
from deployment_toolkit.packages import versions_in
from deployment_toolkit.process import environment, last_lines, run
from navigator.other_converter.finish import finish
from navigator.other_converter.plan import LIBRARY

logger = logging.getLogger("convert")

HOME = ROOT / ".venv-model-navigator"
PACKAGE, SUMMARY = "model.nav", "summary.json"

_START = Path(__file__).with_name("start.py")
_VERSIONS = (LIBRARY, "onnx_graphsurgeon", "polygraphy", "tensorrt")
_SAMPLES = 100  # rows, as many as the library takes by default
_LOG, _LIBRARY_LOG, _WORKSPACE, _TEMPORARY = "output.log", "navigator.log", "workspace", "tmp"
_GPUS = "CUDA_VISIBLE_DEVICES"
_GPU_TARGETS = (Format.TRT, Format.TF_TRT)
_MEMORY = 60  # times the SavedModel: the library gives tf2onnx the weights, of which it makes many copies


def require_library() -> None:
    """Raises UsageError, with the command that installs it, if the library is missing."""
    if not (HOME / "bin" / "python").is_file():
        raise UsageError(
            f"--converter {LIBRARY} needs {LIBRARY}, which is not installed: run scripts/install.sh --model-navigator"
        )


def library_versions() -> dict[str, str]:
    """Versions of the library and of the packages that it works with in its own environment."""
    return versions_in(HOME.glob("lib/python*/site-packages"), _VERSIONS)


def kept_folder(model: Path) -> Path:
    """Folder beside a converted model with what the library said of it."""
    return model.with_name(f"{model.stem}.kept")


def read_summary(model: Path) -> dict[str, Any]:
    """What the results file says of a model that the library made: its comparison (output: atol, rtol) and its profile
    (batch size, rows a second, average milliseconds). Raises DataError if the file is damaged."""
    kept = kept_folder(model)
    found = read_json(kept / SUMMARY)
    keys = ("runner", "comparison", "profile")
    if not isinstance(found, dict) or not found.keys() >= {*keys}:
        raise DataError(f"{kept / SUMMARY} lacks one of {', '.join(keys)}: convert again with --override-workspace")
    shown = {key: found[key] for key in keys}
    return {"versions": library_versions(), "kept": str(kept), **shown}


@dataclass(frozen=True)
class LibraryConverter:
    """A conversion's rows and signature for the library. ``batches`` are rows to compare and to profile on, ``spec`` is
    the signature of every result, ``gpus`` are the names of this machine's."""

    batches: Sequence[Arrays]
    spec: ModelSpec
    max_batch_size: int
    gpus: Sequence[str]

    @property
    def origin(self) -> dict[str, Any]:
        """Values on which a result depends, beside its source and its options."""
        return {
            "converter": {**library_versions(), _START.name: fingerprint.of_path(_START)},
            "samples": fingerprint.of_batches(self._samples()),
            "max_batch_size": self.max_batch_size,
        }

    def convert(
        self, source: tuple[Path, Format], target: tuple[Path, Format], options: Mapping[str, Any], kept: Path
    ) -> None:
        """Writes the model to the target's path, and the folder ``kept``, also after a failure (without a package).

        Raises ConversionError with the library's last words.
        """
        _tell_memory(*source)
        failure = None
        with replace_when_complete(kept) as folder:
            (folder / _TEMPORARY).mkdir(parents=True)
            try:
                self._run(folder, self._job(folder, source, target[1], options), kept)
                made = json.loads((folder / SUMMARY).read_text())
                for part in ("comparison", "profile"):
                    if not made[part]:
                        logger.warning("the %s of %s failed: see %s", part, LIBRARY, kept / _LIBRARY_LOG)
                finish(made, target, self.spec, gpus=self.gpus, precision=options["precision"])
            except ConversionError as error:
                failure = error
            for name in (_WORKSPACE, _TEMPORARY):
                shutil.rmtree(folder / name, ignore_errors=True)
        if failure is not None:
            raise failure

    def _run(self, folder: Path, job: Mapping[str, Any], kept: Path) -> None:
        job_file = folder / _TEMPORARY / "job.json"
        job_file.write_text(json.dumps(job))
        binaries = [HOME / "bin", ROOT / ".venv" / "bin"]  # the library starts "python"
        env = environment(prepend={"PATH": binaries}) | {"TMPDIR": str(folder / _TEMPORARY), "SHELL": "/bin/sh"}
        env.pop("PYTHONPATH", None)
        if job["target"] not in _GPU_TARGETS:
            env[_GPUS] = ""  # the library refuses a conversion for the CPU while TensorFlow sees a GPU
        argv: list[str | Path] = [HOME / "bin" / "python", "-I", _START, job_file]
        logger.info("running optimize of %s %s", LIBRARY, library_versions().get(LIBRARY, ""))
        try:
            run(argv, env=env, log_path=folder / _LOG)
        except ProcessError as error:
            said = next((line for line in reversed(error.stderr.splitlines()) if line.startswith("error: ")), None)
            words = said.removeprefix("error: ") if said else last_lines(error.stderr or error.stdout, 1)
            raise ConversionError(f"{LIBRARY}: {words}; log: {kept / _LOG}") from error
        finally:
            written = folder / _WORKSPACE / _LIBRARY_LOG
            if written.is_file():
                shutil.copyfile(written, folder / written.name)

    def _job(
        self, folder: Path, source: tuple[Path, Format], target: Format, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        profiles: Mapping[str, ShapeProfile] = options.get("profiles", {})
        return {
            "source": str(source[0].resolve()),
            "source_format": source[1],
            "target": target,
            "inputs": [tensor.name for tensor in self.spec.inputs],
            "outputs": [tensor.name for tensor in self.spec.outputs],
            "samples": self._write_samples(folder.resolve() / _TEMPORARY),
            "max_batch_size": self.max_batch_size,
            "opset": options.get("opset"),
            "precision": options["precision"],
            "precision_mode": options["precision_mode"],
            "max_workspace_size_bytes": options.get("max_workspace_size_bytes"),
            "profiles": {name: [one.min, one.opt, one.max] for name, one in profiles.items()},
            "workspace": str(folder.resolve() / _WORKSPACE),
            "package": str(folder.resolve() / PACKAGE),
            "summary": str(folder.resolve() / SUMMARY),
        }

    def _write_samples(self, folder: Path) -> list[str]:
        """Files of one row each, as the library takes only the first row of a batch."""
        paths: list[str] = []
        for batch in self._samples():
            for index in range(len(next(iter(batch.values())))):
                paths.append(str(folder / f"sample_{len(paths)}.npz"))
                row: dict[str, Any] = {name: array[index : index + 1] for name, array in batch.items()}
                np.savez(paths[-1], **row)
        return paths

    def _samples(self) -> list[Arrays]:
        """Some rows of every batch, since batches may differ in their shapes."""
        share = -(-_SAMPLES // len(self.batches))
        return [{name: array[:share] for name, array in batch.items()} for batch in self.batches]


def _tell_memory(source: Path, source_format: Format) -> None:
    needed, free = _MEMORY * stored_bytes(source), psutil.virtual_memory().available
    if source_format is Format.TF_SAVEDMODEL and needed > free:
        told = f"{size_words(needed)} of memory for a model of this size, and {size_words(free)} are free"
        logger.warning("%s needs about %s: its process may be killed", LIBRARY, told)
