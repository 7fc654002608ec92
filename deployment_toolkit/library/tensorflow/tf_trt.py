"""TF-TRT: SavedModels whose subgraphs run as TensorRT engines (``tf.experimental.tensorrt``).

TensorFlow must be built with TensorRT, as in NVIDIA's containers; PyPI's packages are not from 2.18 on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import tensorflow as tf

from deployment_toolkit.core import Arrays, ModelSpec, Precision
from deployment_toolkit.errors import ConversionError, ModelError, UsageError
from deployment_toolkit.files.atomic import require_free_space, size_bytes
from deployment_toolkit.hardware import require_gpu
from deployment_toolkit.library.base import SPEC_FILE, FrameworkSession, store_spec
from deployment_toolkit.library.shape_profile import ShapeProfile
from deployment_toolkit.library.tensorflow.session import SIGNATURE, SavedModelLoader
from deployment_toolkit.library.tensorrt.api import DEFAULT_WORKSPACE_BYTES, require_workspace
from deployment_toolkit.rows.sample import nearest_to_zero

logger = logging.getLogger("convert")

_PROFILES = "Range+Optimal"  # one profile for the shapes from the smallest to the largest, and one for each given shape
_MODES = {Precision.FP32: "FP32", Precision.FP16: "FP16"}


class TfTrtLoader(SavedModelLoader):
    """A SavedModel that TF-TRT converted -> its ``serving_default`` signature, on a GPU."""

    def load(self, path: Path) -> FrameworkSession:
        """Loads the model. Raises DeviceError if there is no GPU, ModelError also if TensorFlow can't run TensorRT
        engines."""
        require_gpu("a model that went through TF-TRT")
        _require_tensorrt(ModelError)
        return super().load(path)


class TfTrtFromSavedModel:
    """SavedModel -> SavedModel with TensorRT engines, built for the GPU of this machine.

    ``precision`` is fp32 or fp16 (int8 would need calibration). ``max_workspace_size_bytes`` is the GPU memory an
    engine may use. ``profiles`` has an entry per input; engines are built for the shapes between its smallest and
    its largest, other shapes run in TensorFlow.
    """

    def __init__(
        self,
        *,
        precision: Precision = Precision.FP32,
        max_workspace_size_bytes: int = DEFAULT_WORKSPACE_BYTES,
        profiles: Mapping[str, ShapeProfile],
    ) -> None:
        if precision not in _MODES:
            raise UsageError(f"tf-trt can't be made as {precision}: use fp32 or fp16")
        require_workspace(max_workspace_size_bytes)
        self._mode = _MODES[precision]
        self._workspace_bytes = max_workspace_size_bytes
        self._profiles = dict(profiles)

    def convert(self, source: Path, target: Path) -> None:
        """Writes the folder ``target``. Raises DeviceError if there is no GPU, ConversionError if TensorFlow is built
        without TensorRT or TF-TRT fails, UsageError if the profiles don't match the inputs, DataError if the disk is
        too full."""
        require_gpu("TF-TRT")
        _require_tensorrt(ConversionError)
        spec = SavedModelLoader().read_spec(source)
        if self._profiles.keys() != {tensor.name for tensor in spec.inputs}:
            names = [tensor.name for tensor in spec.inputs]
            raise UsageError(f"tf-trt needs a shape profile for each of {names}, not for {sorted(self._profiles)}")
        require_free_space(target.parent, 2 * size_bytes(source), "the TF-TRT model")
        try:
            converter = tf.experimental.tensorrt.Converter(
                input_saved_model_dir=str(source),
                input_saved_model_signature_key=SIGNATURE,
                use_dynamic_shape=True,
                dynamic_shape_profile_strategy=_PROFILES,
                max_workspace_size_bytes=self._workspace_bytes,
                precision_mode=self._mode,
                use_calibration=False,
                allow_build_at_runtime=False,
            )
            converter.convert()
            converter.build(input_fn=lambda: self._inputs(spec))
            converter.save(str(target))
        except (tf.errors.OpError, RuntimeError, ValueError, TypeError) as error:  # depends on the failing stage
            raise ConversionError(f"TF-TRT of TensorFlow {tf.__version__} can't convert {source}: {error}") from error
        store_spec(target / SPEC_FILE, spec)

    def _inputs(self, spec: ModelSpec) -> Iterator[Arrays]:
        """One batch for each of the profiles' three shapes, with values that the model accepts."""
        for size in ("opt", "min", "max"):
            yield {
                tensor.name: nearest_to_zero(tensor, getattr(self._profiles[tensor.name], size))
                for tensor in spec.inputs
            }


def _require_tensorrt(error: type[ModelError] | type[ConversionError]) -> None:
    if not tf.sysconfig.get_build_info().get("is_tensorrt_build", False):
        raise error(
            f"TensorFlow {tf.__version__} is built without TensorRT here, as all of PyPI's from 2.18 on: use NVIDIA's "
            "TensorFlow container, 24.11 to 25.02"
        )
