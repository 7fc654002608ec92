"""ONNX files in onnxruntime, on the CPU or a GPU.

Value ranges are stored in the file's ``metadata_props`` under ``model_spec``, as JSON.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from deployment_toolkit.core import Arrays, ModelSpec, Precision, TensorSpec
from deployment_toolkit.errors import DeviceError, ModelError
from deployment_toolkit.library.base import SPEC_KEY, FrameworkSession, Loader
from deployment_toolkit.library.model_files import require_onnx_file

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# Source: onnxruntime's documentation, chapter CUDA execution provider. The other options are for convolutions, for
# batches of one size (CUDA graphs), or have good defaults.
_CUDA_OPTIONS = {
    "use_tf32": "0",  # float32 keeps its 23 bits, as on the CPU; fp16 files are the faster, less precise choice
    "arena_extend_strategy": "kSameAsRequested",  # doubling at each step would waste memory for the largest batches
}
_DRIVERS = {12: 525, 13: 580}  # oldest release of NVIDIA's driver for a major version of CUDA


class OnnxLoader(Loader):
    """``model.onnx`` -> onnxruntime, on the CPU or, with ``device``, only on the GPU of that CUDA index."""

    def __init__(self, *, threads: int | None = None, device: int | None = None) -> None:
        super().__init__(threads=threads)
        self._device = device

    def load(self, path: Path) -> FrameworkSession:
        """Loads the file. Raises ModelError, and DeviceError if onnxruntime can't use the GPU."""
        options = onnxruntime.SessionOptions()
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        session = _open(path, options) if self._device is None else _open_on_gpu(path, options, self._device)
        return OnnxSession(session, path)

    def read_spec(self, path: Path) -> ModelSpec:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return _read_spec(_open(path, options), path)

    def precision(self, path: Path) -> Precision:
        from deployment_toolkit.library.onnx.precision import narrowest  # a server's process seldom needs ONNX itself

        return narrowest(path)

    def describe(self, path: Path) -> str:
        from deployment_toolkit.library.onnx.precision import describe_int8

        return describe_int8(path)


class OnnxSession(FrameworkSession):
    """An onnxruntime session."""

    def __init__(self, session: Any, path: Path) -> None:
        super().__init__(_read_spec(session, path))
        self._session = session
        self._outputs = [spec.name for spec in self.spec.outputs]

    def infer_impl(self, x: Arrays) -> Arrays:
        # On a GPU this copies each input to the GPU and the outputs back. An IO binding would copy as many bytes: it
        # helps only if tensors stay on the GPU between two runs. Page-locked memory would need one more copy.
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, x), strict=True))
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise ModelError(f"the model can't answer these rows: {' '.join(str(error).split())}") from error


def _open(path: Path, options: Any, providers: Sequence[Any] = (_CPU,)) -> Any:
    require_onnx_file(path)
    options.log_severity_level = 3
    try:
        # onnxruntime must not fall back to the CPU if a GPU fails.
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ModelError(f"{path} can't be loaded by onnxruntime {onnxruntime.__version__}: {error}") from error


def _open_on_gpu(path: Path, options: Any, device: int) -> Any:
    """Session that prefers the GPU; cheap operations, such as shape arithmetic, stay on the CPU."""
    if _CUDA not in onnxruntime.get_available_providers():
        raise DeviceError(
            f"{path} can't run on GPU {device}: the installed onnxruntime {onnxruntime.__version__} is the one for the "
            "CPU, install that for GPUs with scripts/install.sh --gpu"
        )
    with contextlib.redirect_stdout(io.StringIO()) as said:
        onnxruntime.preload_dlls()  # libraries in NVIDIA's Python packages, which are not in the linker's search path
    try:
        session = _open(path, options, [(_CUDA, {"device_id": str(device), **_CUDA_OPTIONS}), _CPU])
    except ModelError as error:
        if "CUDA failure" in str(error):
            raise DeviceError(_no_gpu(path, device, str(error.__cause__))) from error
        raise
    if session.get_providers()[0] != _CUDA:  # onnxruntime only warns
        raise DeviceError(_no_gpu(path, device, said.getvalue().partition("\n")[0] or "does nvidia-smi show it?"))
    return session


def _no_gpu(path: Path, device: int, reason: str) -> str:
    cuda = int(onnxruntime.cuda_version.partition(".")[0])
    return (
        f"{path} can't run on GPU {device} ({' '.join(reason.split())}): onnxruntime {onnxruntime.__version__} needs "
        f"NVIDIA's driver {_DRIVERS.get(cuda, 'for it')} or newer and the libraries of CUDA {cuda}, install these with "
        "scripts/install.sh --gpu"
    )


def _read_spec(session: Any, path: Path) -> ModelSpec:
    try:
        spec = ModelSpec(
            inputs=tuple(_tensor_spec(node) for node in session.get_inputs()),
            outputs=tuple(_tensor_spec(node) for node in session.get_outputs()),
        )
        stored = session.get_modelmeta().custom_metadata_map.get(SPEC_KEY)
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is damaged, a name in it is no text ({error}): convert the model again") from error
    return spec if stored is None else spec.described_by(ModelSpec.read(stored, str(path)))


def _tensor_spec(node: Any) -> TensorSpec:
    if node.type not in _DTYPES:
        raise ModelError(f"tensor {node.name} is of type {node.type}, which no Triton request can carry here")
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape[1:])
    return TensorSpec(node.name, _DTYPES[node.type], shape)
