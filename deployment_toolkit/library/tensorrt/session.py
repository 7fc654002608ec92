"""TensorRT plans on a GPU (Python API of TensorRT 10)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deployment_toolkit.core import Arrays, ModelSpec, TensorSpec
from deployment_toolkit.errors import DeviceError, InputError, ModelError, UsageError
from deployment_toolkit.hardware import require_gpu
from deployment_toolkit.library.base import FrameworkSession, Loader, stored_spec
from deployment_toolkit.library.tensorrt.api import import_tensorrt, make_logger, numpy_dtype
from deployment_toolkit.library.tensorrt.cuda_memory import CudaMemory
from deployment_toolkit.library.tensorrt.plan import plan_build, plan_file


class TensorRTLoader(Loader):
    """A folder with ``model.plan``, or a single plan file -> TensorRT on the first GPU."""

    def __init__(self, *, threads: int | None = None) -> None:
        if threads is not None:
            raise UsageError("a TensorRT plan runs on a GPU and takes no --threads: leave it out")
        super().__init__()

    def load(self, path: Path) -> FrameworkSession:
        """Loads the plan. Raises DeviceError if there is no GPU, and ModelError, before anything is loaded, for a plan
        of another TensorRT version or GPU."""
        file = plan_file(path)
        require_gpu("a TensorRT plan")
        trt, cuda = import_tensorrt(), CudaMemory()
        try:
            build = plan_build(path)
            if build is not None:
                build.require(str(path), tensorrt=trt.__version__, gpu=cuda.device_name)
            return TensorRTSession(trt, cuda, file.read_bytes(), stored_spec(path), str(path))
        except BaseException:
            cuda.close()
            raise

    def read_spec(self, path: Path) -> ModelSpec:
        stored = stored_spec(path)
        if stored is not None:
            return stored
        file = plan_file(path)
        try:
            with self.load(path) as session:
                return session.spec
        except (DeviceError, ModelError) as error:
            raise ModelError(
                f"{file} has no model_spec.yaml and does not tell its signature: give --inputs and --outputs ({error})"
            ) from error


class TensorRTSession(FrameworkSession):
    """An engine with one execution context. Value ranges come from ``stored``, the rest from the engine."""

    def __init__(self, trt: Any, cuda: CudaMemory, plan: bytes, stored: ModelSpec | None, where: str) -> None:
        self._cuda = cuda
        logger = make_logger(trt)
        self._runtime = trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            told = "; ".join(logger.errors) or "no reason was given"
            raise ModelError(f"{where} can't be loaded by TensorRT {trt.__version__} on {cuda.device_name}: {told}")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            told = "; ".join(logger.errors) or "no reason was given"
            raise DeviceError(f"{where} can't be run on {cuda.device_name}, probably for want of GPU memory: {told}")
        self._logger = logger
        spec = _engine_spec(trt, self._engine)
        super().__init__(spec.described_by(stored))

    def infer_impl(self, x: Arrays) -> Arrays:
        self._cuda.make_current()
        contiguous = {name: np.ascontiguousarray(array) for name, array in x.items()}
        for name, array in contiguous.items():
            if not self._context.set_input_shape(name, array.shape):
                low, _, high = self._engine.get_tensor_profile_shape(name, 0)
                raise InputError(
                    f"input {name} has shape {list(array.shape)}, the plan was built for {list(low)} .. {list(high)}"
                )
            self._context.set_tensor_address(name, self._cuda.upload(name, array))
        shapes = {output.name: tuple(self._context.get_tensor_shape(output.name)) for output in self.spec.outputs}
        for output in self.spec.outputs:
            size_bytes = int(np.prod(shapes[output.name])) * np.dtype(output.dtype).itemsize
            self._context.set_tensor_address(output.name, self._cuda.reserve(output.name, size_bytes))
        if not self._context.execute_async_v3(self._cuda.stream):
            raise ModelError(f"TensorRT could not run the plan: {'; '.join(self._logger.errors[-3:])}")
        answers = {
            output.name: self._cuda.download(output.name, shapes[output.name], output.dtype)
            for output in self.spec.outputs
        }
        self._cuda.synchronize()
        return answers

    def __exit__(self, *exc_info: object) -> None:
        del self._context, self._engine, self._runtime  # in this order, before the memory they use
        self._cuda.close()


def _engine_spec(trt: Any, engine: Any) -> ModelSpec:
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = numpy_dtype(trt, name, engine.get_tensor_dtype(name))
        tensor = TensorSpec(name, dtype, tuple(engine.get_tensor_shape(name))[1:])
        (inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs).append(tensor)
    return ModelSpec(tuple(inputs), tuple(outputs))
