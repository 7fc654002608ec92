"""Base of every runtime: a public guard that checks the batch, then the runtime's own ``infer_impl``."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import yaml

from deployment_toolkit.core import Arrays, Batch, Format, ModelSpec, Precision, Prediction
from deployment_toolkit.library.model_files import MAIN_FILES, weight_files
from deployment_toolkit.machine import limited_cores
from deployment_toolkit.options.located_yaml import load_yaml
from deployment_toolkit.packing import pack

# TensorFlow reserves this folder for files that belong to a SavedModel and are not loaded by its graph.
SPEC_FILE = Path("assets.extra") / "model_spec.yaml"
PLAIN_SPEC_FILE = Path("model_spec.yaml")
SPEC_KEY = "model_spec"  # in the metadata of an ONNX file


def stored_spec(folder: Path) -> ModelSpec | None:
    """Signature, with value ranges, that an export stored in the folder of a SavedModel or TensorRT plan; reading it
    needs no runtime. Raises DataError or ModelError if it is damaged."""
    found = (folder / name for name in (SPEC_FILE, PLAIN_SPEC_FILE) if (folder / name).is_file())
    path = next(found, None)
    return None if path is None else ModelSpec.read(load_yaml(path).plain, str(path))


def store_spec(path: Path, spec: ModelSpec) -> None:
    """Writes the signature to the file ``path``: ``SPEC_FILE`` or ``PLAIN_SPEC_FILE`` of a model's folder."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(spec.to_dict(), sort_keys=False))


class FrameworkSession(ABC):
    """A model loaded into this process."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec

    @property
    def spec(self) -> ModelSpec:
        """Inputs, outputs and value ranges."""
        return self._spec

    def infer(self, x: Arrays) -> Arrays:
        """Returns ``{output: [B, ...]}``. Raises InputError if the batch does not fit the signature."""
        self._spec.check_inputs(x)
        return self.infer_impl(x)

    @abstractmethod
    def infer_impl(self, x: Arrays) -> Arrays:
        """Returns the outputs for a batch that has been checked."""

    def predict(self, batches: Iterator[Batch]) -> Iterator[Prediction]:
        """Yields a prediction for each batch, in order; a batch has the inputs of the original signature, also if the
        model's are packed."""
        for batch in batches:
            self._spec.unpacked.check_inputs(batch.x)
            yield Prediction(batch, self.infer_impl(pack(batch.x, self._spec)))

    def __enter__(self) -> FrameworkSession:
        return self

    def __exit__(self, *exc_info: object) -> None:
        return None


class Loader(ABC):
    """Loads one format. ``threads`` is the number of threads of one inference; None lets the runtime choose. In a
    container with a limit of CPU time, which runtimes don't see, None is the number of cores that the limit allows."""

    def __init__(self, *, threads: int | None = None) -> None:
        self._threads = limited_cores() if threads is None else threads

    @abstractmethod
    def load(self, path: Path) -> FrameworkSession:
        """Loads a model. Raises ModelError if there is no such model or it can't be read."""

    @abstractmethod
    def read_spec(self, path: Path) -> ModelSpec:
        """Signature of a model. Raises ModelError as ``load`` does."""

    def describe(self, path: Path) -> str:
        """Phrase about how the model was made, for the log; empty if there is nothing to report."""
        return ""

    def precision(self, path: Path) -> Precision:
        """Narrowest number format that the model is known to compute in."""
        return Precision.FP32


class CopyModel:
    """The conversion of a format to itself."""

    def convert(self, source: Path, target: Path) -> None:
        """Copies a file, with weights that it keeps in other files, or a folder. Raises ModelError if weights are
        missing."""
        weights = weight_files(source)
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.suffix == ".xml":
            target.mkdir()
            for file in (source, *weights.values()):
                shutil.copyfile(file, (target / MAIN_FILES[Format.OPENVINO]).with_suffix(file.suffix))
        elif weights:
            from deployment_toolkit.library.onnx.writing import copy_onnx  # only a conversion needs ONNX itself

            copy_onnx(source, target)
        else:
            shutil.copyfile(source, target)
