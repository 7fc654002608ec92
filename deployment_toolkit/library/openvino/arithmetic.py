"""Arithmetic that an OpenVINO model requires, read without OpenVINO from the file's runtime information: next to the
value ranges, under ``framework``, ``precision`` (fp32, bf16 or int8)."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from deployment_toolkit.core import Format, Precision
from deployment_toolkit.errors import ModelError
from deployment_toolkit.library.model_files import MAIN_FILES

PRECISION_KEY = "precision"
_PRECISION_PATH = f"rt_info/framework/{PRECISION_KEY}"
# OpenVINO's name for the precision of the layers that are not quantized; without it the CPU plugin uses bfloat16 if the
# CPU has it.
HINTS = {Precision.FP32: "f32", Precision.FP16: "f32", Precision.BF16: "bf16", Precision.INT8: "bf16"}


def arithmetic(path: Path) -> str:
    """``f32`` or ``bf16``, by the precision that the file names."""
    return HINTS[narrowest(path)]


def narrowest(path: Path) -> Precision:
    """Precision that the file names, for a folder with ``model.xml`` or the path of a ``model.xml``; float32 if it
    names none.

    Raises ModelError if the file can't be read or names an unknown precision.
    """
    file = path if path.suffix == ".xml" else path / MAIN_FILES[Format.OPENVINO]
    try:
        element = ElementTree.parse(file).getroot().find(_PRECISION_PATH)
    except (OSError, ElementTree.ParseError) as error:
        raise ModelError(f"{file} is no OpenVINO model ({error}): convert the model first") from error
    return parse_precision("" if element is None else element.get("value", ""), file)


def parse_precision(text: str, path: Path) -> Precision:
    """The precision that the model at ``path`` tells; float32 where it tells none. Raises ModelError for a text that is
    not known."""
    known = [str(precision) for precision in HINTS]
    if text and text not in known:
        raise ModelError(f"{path} asks for precision {text!r}, known are {', '.join(known)}: convert it anew")
    return Precision(text or Precision.FP32)
