"""The part of the mock of ``tensorrt`` that runs plans: tensors, engine, execution context (see mock_tensorrt.py)."""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto

from tests.deployment_toolkit.library.mock_cuda import MockDriver

MAGIC = b"mock plan\n"


class TensorIOMode(enum.IntEnum):
    INPUT = 1
    OUTPUT = 2


class DataType(enum.IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    BF16 = 7
    INT64 = 8


DTYPES = {
    TensorProto.FLOAT: DataType.FLOAT,
    TensorProto.FLOAT16: DataType.HALF,
    TensorProto.INT32: DataType.INT32,
    TensorProto.INT64: DataType.INT64,
    TensorProto.BFLOAT16: DataType.BF16,
}
NUMPY = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.INT8: np.int8,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
    DataType.BOOL: np.bool_,
}


class Dims:
    """A sequence that is no tuple, as in TensorRT."""

    def __init__(self, shape: Any) -> None:
        self._shape = tuple(shape)

    def __len__(self) -> int:
        return len(self._shape)

    def __iter__(self) -> Iterator[int]:
        return iter(self._shape)


class ITensor:
    def __init__(self, name: str, dtype: DataType, shape: tuple[int, ...], output: bool = False) -> None:
        self.name, self.dtype, self.shape = name, dtype, Dims(shape)
        self.is_network_output, self.is_execution_tensor = output, True


def mock_tensor(value: Any, output: bool = False) -> ITensor:
    tensor_type = value.type.tensor_type
    shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in tensor_type.shape.dim)
    return ITensor(value.name, DTYPES.get(tensor_type.elem_type, DataType.BOOL), shape, output)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self.mock_engine = engine
        self.mock_shapes: dict[str, tuple[int, ...]] = {}
        self.mock_addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: Any) -> bool:
        low, _, high = self.mock_engine.mock_profile[name]
        fits = len(shape) == len(low) and all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))
        self.mock_shapes[name] = tuple(shape)
        return fits

    def get_tensor_shape(self, name: str) -> Dims:
        batch = next(iter(self.mock_shapes.values()))[0]
        return Dims(batch if size == -1 else size for size in self.mock_engine.mock_tensor(name).shape)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory in self.mock_engine.mock_driver.live
        self.mock_addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self.mock_addresses.keys() != {tensor.name for tensor, _ in self.mock_engine.mock_tensors}:
            return False
        self.mock_engine.mock_driver.enqueue(stream_handle, self.mock_run)
        return True

    def mock_run(self) -> None:
        arrays = {tensor.name: self.mock_array(tensor) for tensor, _ in self.mock_engine.mock_tensors}
        inputs = {name: arrays[name] for name in self.mock_shapes}
        for output, answer in zip(
            self.mock_engine.mock_session.get_outputs(), self.mock_engine.mock_session.run(None, inputs), strict=True
        ):
            arrays[output.name][:] = answer

    def mock_array(self, tensor: ITensor) -> Any:
        shape = self.mock_shapes.get(tensor.name) or tuple(self.get_tensor_shape(tensor.name))
        dtype = np.dtype(NUMPY[tensor.dtype])
        size = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_char * size).from_address(self.mock_addresses[tensor.name])
        return np.frombuffer(memory, dtype).reshape(shape)  # type: ignore[call-overload]


class ICudaEngine:
    mock_gpu_is_full = False

    def __init__(self, plan: bytes, driver: MockDriver) -> None:
        profile, model = plan.removeprefix(MAGIC).split(b"\n", 1)
        self.mock_profile, self.mock_driver = json.loads(profile), driver
        self.mock_session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        graph = onnx.load_from_string(model).graph
        self.mock_tensors = [(mock_tensor(value), TensorIOMode.INPUT) for value in graph.input]
        self.mock_tensors += [(mock_tensor(value), TensorIOMode.OUTPUT) for value in graph.output]

    @property
    def num_io_tensors(self) -> int:
        return len(self.mock_tensors)

    def get_tensor_name(self, index: int) -> str:
        return self.mock_tensors[index][0].name

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return next(mode for tensor, mode in self.mock_tensors if tensor.name == name)

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.mock_tensor(name).dtype

    def get_tensor_shape(self, name: str) -> Dims:
        return self.mock_tensor(name).shape

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        assert profile_index == 0
        return [Dims(shape) for shape in self.mock_profile[name]]

    def create_execution_context(self, strategy: Any = None) -> IExecutionContext | None:
        return None if ICudaEngine.mock_gpu_is_full else IExecutionContext(self)

    def mock_tensor(self, name: str) -> ITensor:
        return next(tensor for tensor, _ in self.mock_tensors if tensor.name == name)
