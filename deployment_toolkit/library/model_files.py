"""Files of a stored model, by format."""

from __future__ import annotations

from pathlib import Path

from deployment_toolkit.core import Format
from deployment_toolkit.errors import ModelError

# Suffix of a path, by format. A model that TF-TRT converted is a SavedModel.
SUFFIXES = {
    Format.TF_SAVEDMODEL: ".savedmodel",
    Format.TF_TRT: ".savedmodel",
    Format.ONNX: ".onnx",
    Format.TRT: ".plan",
    Format.OPENVINO: ".openvino",
    Format.TORCHSCRIPT: ".pt",
}
# File that identifies a folder of the format.
MAIN_FILES = {
    Format.TF_SAVEDMODEL: "saved_model.pb",
    Format.TF_TRT: "saved_model.pb",
    Format.TRT: "model.plan",
    Format.OPENVINO: "model.xml",
}
_ALSO_FILES = (Format.TRT, Format.OPENVINO)  # a plan or a model.xml that other software made, without its folder


def format_of(path: Path) -> Format | None:
    """Format of the model at ``path``, from its suffix or else from the files in it; None if neither shows it."""
    if path.suffix == ".xml":
        return Format.OPENVINO
    by_suffix = (model_format for model_format, suffix in SUFFIXES.items() if suffix == path.suffix)
    by_content = (model_format for model_format, name in MAIN_FILES.items() if (path / name).is_file())
    return next(by_suffix, None) or next(by_content, None)


def weight_files(path: Path) -> list[Path]:
    """Paths beside a model's file where its weights may be: ``model.bin`` of a ``model.xml``, the second file of a
    large ONNX file."""
    return [path.with_suffix(".bin")] if path.suffix == ".xml" else [path.with_name(f"{path.name}.data")]


def require_format(path: Path, model_format: Format) -> None:
    """Raises ModelError if there is nothing at ``path``, or it can't be a model of this format."""
    if not path.exists():
        raise ModelError(f"there is no model at {path}: export or convert it first, or fix the path")
    name = MAIN_FILES.get(model_format)
    if path.is_dir():
        if name is None:
            raise ModelError(f"{path} is no {model_format}: a model of this format is a file")
        if not (path / name).is_file():
            raise ModelError(f"{path} is no {model_format}: it is a folder without a {name}")
    elif name is not None and model_format not in _ALSO_FILES:
        raise ModelError(f"{path} is no {model_format}: a model of this format is a folder with a {name}")


def require_onnx_file(path: Path) -> None:
    """Raises ModelError if there is no file at ``path``, where a conversion to ONNX is to have put one."""
    if not path.is_file():
        raise ModelError(f"there is no ONNX file at {path}: convert the model first")
