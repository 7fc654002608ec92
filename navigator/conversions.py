"""Converted models in a workspace, made or found there."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.core import Format, Precision
from deployment_toolkit.errors import ConversionError, DeploymentError, ModelError
from deployment_toolkit.files.atomic import replace_when_complete
from deployment_toolkit.library import registry
from deployment_toolkit.library.model_files import SUFFIXES, fingerprint_of
from deployment_toolkit.library.shape_profile import ShapeProfile
from navigator.attempts import NEED_GPU, ConversionStep
from navigator.calibration import Calibration
from navigator.comparison import ModelComparison
from navigator.other_converter.converter import LibraryConverter, kept_folder
from navigator.reuse import Ledger, tool_versions

logger = logging.getLogger("convert")

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


@dataclass(frozen=True)
class Made:
    """A stored model, its fingerprint, and a flag if it was there before."""

    path: Path
    format: Format
    fingerprint: str
    reused: bool


def step_path(folder: Path, step: ConversionStep) -> Path:
    """Path of the file or folder that a step makes."""
    return folder / f"{step.name}{SUFFIXES[step.target]}"


@contextlib.contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Logs the block to this file too, appended to the output of earlier calls."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter(_LOG_FORMAT))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _converter(step: ConversionStep) -> Any:
    if step.packs:
        return registry.packer(step.source)
    return registry.renamer(step.source) if step.renames else registry.converter(step.source, step.target)


class Conversions:
    """Folder of converted models; ``ledger`` records the origin of each file, ``gpus`` are the machine's,
    ``calibration`` is given if a step makes int8 with calibration rows, ``library`` if a step is one of
    triton-model-navigator."""

    def __init__(
        self,
        source: Made,
        folder: Path,
        ledger: Ledger,
        profiles: Mapping[str, ShapeProfile],
        gpus: Sequence[str],
        calibration: Calibration | None = None,
        library: LibraryConverter | None = None,
    ) -> None:
        self._source, self._folder, self._ledger = source, folder, ledger
        self._profiles, self._gpus, self._calibration, self._library = profiles, gpus, calibration, library
        self._done: dict[str, Made | DeploymentError] = {}

    def make(self, steps: Sequence[ConversionStep]) -> Made:
        """Result of a chain of steps. A step runs only if its result for the same input, options and versions is
        missing. Raises the errors of the converters; the error of an intermediate step names it."""
        made = self._source
        for step in steps:
            try:
                made = self._once(step, made, own_log=step is not steps[-1])
            except DeploymentError as error:
                if step is steps[-1]:
                    raise
                raise ConversionError(f"{step.name}, on the way, failed: {error}") from error
        return made

    def compare(self, name: str, made: Made, comparison: ModelComparison, *, reduced: bool) -> tuple[str, bool]:
        """Message of a conversion's comparison, and True if it is from an earlier call; ``reduced`` means a narrower
        precision. Raises ToleranceError if the answers differ."""
        topic = f"{name}: comparison"
        origin = {
            "source": self._source.fingerprint,
            "candidate": made.fingerprint,
            "rows": comparison.rows_fingerprint,
            "tolerances": comparison.tolerances_of(reduced=reduced),
            "versions": tool_versions((self._source.format, made.format)),
            "gpus": self._gpus if made.format in NEED_GPU else [],
        }
        known = self._ledger.recall(topic, origin)
        if known is not None:
            return str(known), True
        message = comparison.compare(made.path, made.format, reduced=reduced)
        self._ledger.note(topic, origin, message)
        return message, False

    def _once(self, step: ConversionStep, source: Made, *, own_log: bool) -> Made:
        """Runs a step at most once per call, since chains share their first steps; a failure is raised again."""
        if step.name not in self._done:
            with logged_to(self._folder / f"{step.name}.log") if own_log else contextlib.nullcontext():
                try:
                    self._done[step.name] = self._convert(step, source)
                except DeploymentError as error:
                    self._done[step.name] = error
        done = self._done[step.name]
        if isinstance(done, DeploymentError):
            raise done
        return done

    def _convert(self, step: ConversionStep, source: Made) -> Made:
        path = step_path(self._folder, step)
        topic = f"{step.name}: conversion"
        options = dict(step.options)
        if step.target in NEED_GPU and step.source is not step.target:
            options["profiles"] = self._profiles
        origin = {
            "source": source.fingerprint,
            "formats": [step.source, step.target],
            "options": dict(options),
            "versions": tool_versions((step.source, step.target)),
            "gpus": self._gpus if step.target in NEED_GPU else [],
        }
        if self._calibration is not None and options.get("precision") is Precision.INT8:
            origin["calibration"] = self._calibration.origin
            options |= {"calibration": self._calibration.batches, "max_noise": self._calibration.max_noise}
        library = self._library if step.by_library else None
        if library is not None:
            origin |= library.origin
        known = self._ledger.recall(topic, origin)
        if known is not None and self._is_whole(path, known) and (library is None or kept_folder(path).is_dir()):
            logger.info("%s: reusing %s", step.name, path)
            return Made(path, step.target, known, reused=True)
        self._ledger.forget(topic)
        logger.info("converting %s to %s", source.path, step.name)
        started = time.monotonic()
        with replace_when_complete(path) as beside:
            if library is not None:
                ends = (source.path, source.format), (beside, step.target)
                library.convert(*ends, options, kept_folder(path))
            else:
                _converter(step)(**options).convert(source.path, beside)
        logger.info("converted in %.1f s", time.monotonic() - started)
        digest = fingerprint_of(path)
        self._ledger.note(topic, origin, digest)
        return Made(path, step.target, digest, reused=False)

    def _is_whole(self, path: Path, known: str) -> bool:
        with contextlib.suppress(ModelError):  # its weights are gone
            if path.exists() and fingerprint_of(path) == known:
                return True
        logger.info("%s is missing or damaged: making it again", path)
        return False
