"""Files of a stored model, by format."""

from __future__ import annotations

from pathlib import Path

from deployment_toolkit.core import Format
from deployment_toolkit.errors import ModelError
from deployment_toolkit.files import fingerprint
from deployment_toolkit.files.atomic import size_bytes
from deployment_toolkit.library.onnx.external import external_files

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


def weight_files(path: Path) -> dict[str, Path]:
    """Files beside a model's file that hold its weights, by their names relative to its folder: ``model.bin`` of a
    ``model.xml``, the external data of an ONNX file. Raises ModelError if one is missing."""
    if not path.is_file():
        return {}
    if path.suffix != ".xml":
        return external_files(path)
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ModelError(f"{path} is no OpenVINO model: there is no {weights.name} beside it")
    return {weights.name: weights}


def fingerprint_of(path: Path) -> str:
    """Fingerprint of a stored model with its weights. Raises ModelError if a part of it is missing."""
    return " ".join(map(fingerprint.of_path, (path, *weight_files(path).values())))


def same_model(left: Path, right: Path) -> bool:
    """True if both stored models are there, whole and with the same content."""
    try:
        return left.exists() and right.exists() and fingerprint_of(left) == fingerprint_of(right)
    except ModelError:
        return False


def stored_bytes(path: Path) -> int:
    """Size of a stored model with its weights. Raises ModelError if a part of it is missing."""
    return sum(map(size_bytes, (path, *weight_files(path).values())))


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
    """Raises ModelError if there is no file at ``path``, where a conversion to ONNX is to have put one, or if weights
    that it keeps in other files are not there."""
    if not path.is_file():
        raise ModelError(f"there is no ONNX file at {path}: convert the model first")
    external_files(path)
