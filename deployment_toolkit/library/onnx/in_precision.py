"""Conversion of an ONNX file to another precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from deployment_toolkit.core import Format, Precision
from deployment_toolkit.errors import ConversionError, DeploymentError
from deployment_toolkit.files.atomic import require_free_space
from deployment_toolkit.library.base import CopyModel
from deployment_toolkit.library.int8_choice import InPrecision
from deployment_toolkit.library.model_files import require_onnx_file, stored_bytes
from deployment_toolkit.library.onnx.fp16 import half_precision
from deployment_toolkit.library.onnx.int8 import OnnxInt8
from deployment_toolkit.library.onnx.precision import note_int8
from deployment_toolkit.library.onnx.reading import read_onnx
from deployment_toolkit.library.onnx.session import OnnxLoader
from deployment_toolkit.library.onnx.writing import require_one_file


class OnnxInPrecision(InPrecision):
    """ONNX file -> the same file (``fp32``: it keeps its exported precision), a file of half the size (``fp16``), or
    one for onnxruntime alone (``int8``).

    ``int8`` needs ``calibration``, batches of training rows: hidden layers and embedding tables become integers as long
    as the noise stays below ``max_noise`` (see ``int8_choice.py``), the rest stays float32. It runs on any CPU.
    """

    made = Format.ONNX
    precisions = (Precision.INT8, Precision.FP16, Precision.FP32)

    def convert(self, source: Path, target: Path) -> None:
        """Writes the file ``target``, with the source's names and metadata. Raises ModelError if the source is no ONNX
        file, ConversionError if it can't be converted or rounding costs too much, DataError if the disk is too full,
        InputError if calibration rows don't fit the signature."""
        if self._precision is Precision.FP32:
            CopyModel().convert(source, target)
            return
        require_onnx_file(source)
        model = read_onnx(source)
        require_one_file(model, source)
        if self._precision is Precision.INT8:
            spec = OnnxLoader().read_spec(source)
            for batch in self._calibration:
                spec.check_inputs(batch)
        require_free_space(target.parent, stored_bytes(source) // 2, "the ONNX file")
        try:
            made = self._quantize(model) if self._precision is Precision.INT8 else half_precision(model)
            onnx.checker.check_model(made)
        except DeploymentError:
            raise
        except Exception as error:  # errors of the converter, onnxruntime and ONNX have no common base
            raise ConversionError(f"{source} can't be converted to {self._precision}: {error}") from error
        onnx.save(made, str(target))

    def _quantize(self, model: Any) -> Any:
        made = OnnxInt8(model, self._calibration).quantize(self._max_noise)
        note_int8(made.model, made.kept, made.noise)
        return made.model
