"""A mock of the module ``tensorrt`` for machines without it: its plans are ONNX files, and its engine is onnxruntime.

It has only names that TensorRT 10.13 has (tensorrt/api.yaml; a test compares them), so code that uses another name
fails on it. Names of the mock alone begin with ``mock_``."""

from __future__ import annotations

import ctypes
import enum
import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from deployment_toolkit import hardware
from tests.deployment_toolkit.library.mock_cuda import MockDriver
from tests.deployment_toolkit.library.mock_tensorrt_engine import (
    MAGIC,
    NUMPY,
    DataType,
    ICudaEngine,
    IExecutionContext,
    ITensor,
    TensorIOMode,
    mock_tensor,
)


class BuilderFlag(enum.IntEnum):
    FP16 = 0
    INT8 = 1
    TF32 = 6
    SPARSE_WEIGHTS = 7
    OBEY_PRECISION_CONSTRAINTS = 9


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class LayerType(enum.IntEnum):
    CAST = 1
    GATHER = 16
    MATRIX_MULTIPLY = 17
    CONSTANT = 19
    SHAPE = 23


LAYERS = {"MatMul": LayerType.MATRIX_MULTIPLY, "Cast": LayerType.CAST, "Shape": LayerType.SHAPE}


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        self.mock_ready = True


class IHostMemory(bytearray):
    @property
    def nbytes(self) -> int:
        return len(self)


class ILayer:
    __slots__ = ("mock_output_types", "mock_outputs", "name", "num_outputs", "precision", "type")

    def __init__(self, name: str, kind: LayerType, outputs: list[ITensor]) -> None:
        self.name, self.type, self.mock_outputs, self.num_outputs = name, kind, outputs, len(outputs)
        self.precision: DataType
        self.mock_output_types: dict[int, DataType] = {}

    def get_output(self, index: int) -> ITensor:
        return self.mock_outputs[index]

    def set_output_type(self, index: int, dtype: DataType) -> None:
        self.mock_output_types[index] = dtype


class INetworkDefinition:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.mock_model: Any = None
        self.mock_inputs: list[ITensor] = []
        self.mock_outputs: list[ITensor] = []
        self.mock_layers: list[ILayer] = []

    @property
    def num_inputs(self) -> int:
        return len(self.mock_inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.mock_outputs)

    @property
    def num_layers(self) -> int:
        return len(self.mock_layers)

    def get_input(self, index: int) -> ITensor:
        return self.mock_inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self.mock_outputs[index]

    def get_layer(self, index: int) -> ILayer:
        return self.mock_layers[index]


class ParserError:
    def __init__(self, node: Any) -> None:
        self.mock_node = node

    def desc(self) -> str:
        return "no importer registered for this operator"

    def node_name(self) -> str:
        return str(self.mock_node.name)

    def node_operator(self) -> str:
        return str(self.mock_node.op_type)


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        assert logger.mock_ready
        self.mock_network = network
        self.mock_errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self.mock_errors)

    def get_error(self, index: int) -> ParserError:
        return self.mock_errors[index]

    def parse_from_file(self, model: str) -> bool:
        assert isinstance(model, str)
        parsed, network = onnx.load(model), self.mock_network
        self.mock_errors = [ParserError(node) for node in parsed.graph.node if node.domain == "unknown"]
        network.mock_model = parsed
        network.mock_inputs = [mock_tensor(value) for value in parsed.graph.input]
        network.mock_outputs = [mock_tensor(value, output=True) for value in parsed.graph.output]
        known = {value.name: mock_tensor(value) for value in onnx.shape_inference.infer_shapes(parsed).graph.value_info}
        known |= {tensor.name: tensor for tensor in network.mock_outputs}
        network.mock_layers = [
            ILayer(node.name, LAYERS.get(node.op_type, LayerType.GATHER), [known[name] for name in node.output])
            for node in parsed.graph.node
            if all(name in known for name in node.output)
        ]
        return not self.mock_errors


class IOptimizationProfile:
    def __init__(self) -> None:
        self.mock_shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.mock_shapes[input] = [tuple(min), tuple(opt), tuple(max)]


class IBuilderConfig:
    def __init__(self) -> None:
        self.mock_flags = {BuilderFlag.TF32}  # as the real one starts
        self.mock_pools: dict[MemoryPoolType, int] = {}
        self.mock_profiles: list[IOptimizationProfile] = []

    def set_flag(self, flag: BuilderFlag) -> None:
        self.mock_flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.mock_flags.discard(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.mock_pools[pool] = pool_size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.mock_profiles.append(profile)
        largest = max(shape[0] for shapes in profile.mock_shapes.values() for shape in shapes)
        return -1 if largest > MockTensorRT.LARGEST_BATCH else len(self.mock_profiles) - 1


class MockTensorRT:
    """The module. ``mock_built`` holds the network and the configuration of each build."""

    LARGEST_BATCH = 2**17

    def __init__(self, driver: MockDriver, version: str = "10.13.0.35") -> None:
        self.__version__ = version
        self.mock_driver = driver
        self.mock_built: list[tuple[INetworkDefinition, IBuilderConfig]] = []
        self.mock_loads = 0
        module = self

        class Builder:
            def __init__(self, logger: Any) -> None:
                assert isinstance(logger, ILogger) and logger.mock_ready
                self.mock_logger = logger

            def create_network(self, flags: int = 0) -> INetworkDefinition:
                return INetworkDefinition(flags)

            def create_builder_config(self) -> IBuilderConfig:
                return IBuilderConfig()

            def create_optimization_profile(self) -> IOptimizationProfile:
                return IOptimizationProfile()

            def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
                module.mock_built.append((network, config))
                (profile,) = config.mock_profiles
                if config.mock_pools[MemoryPoolType.WORKSPACE] < 1024:
                    self.mock_logger.log(ILogger.ERROR, "Could not find any implementation for node mock")  # type: ignore[attr-defined]
                    return None
                text = json.dumps(profile.mock_shapes).encode()
                return IHostMemory(MAGIC + text + b"\n" + network.mock_model.SerializeToString())

        class Runtime:
            def __init__(self, logger: Any) -> None:
                assert isinstance(logger, ILogger) and logger.mock_ready
                self.mock_logger = logger

            def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
                module.mock_loads += 1
                if not serialized_engine.startswith(MAGIC):
                    self.mock_logger.log(ILogger.ERROR, "magicTagRead == kMAGIC_TAG failed")  # type: ignore[attr-defined]
                    return None
                return ICudaEngine(serialized_engine, driver)

        self.Builder, self.Runtime, self.ILogger, self.OnnxParser = Builder, Runtime, ILogger, OnnxParser
        self.BuilderFlag, self.LayerType, self.MemoryPoolType = BuilderFlag, LayerType, MemoryPoolType
        self.NetworkDefinitionCreationFlag, self.TensorIOMode = NetworkDefinitionCreationFlag, TensorIOMode
        self.float32, self.float16 = DataType.FLOAT, DataType.HALF

    def nptype(self, trt_type: DataType) -> Any:
        if trt_type not in NUMPY:
            raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
        return NUMPY[trt_type]

    def mock_classes(self) -> list[type]:
        """Classes that a test compares with the real names."""
        own = [BuilderFlag, NetworkDefinitionCreationFlag, MemoryPoolType, TensorIOMode, LayerType, DataType, ILogger]
        own += [IHostMemory, ITensor, ILayer, INetworkDefinition, ParserError, OnnxParser, IOptimizationProfile]
        return [*own, IBuilderConfig, IExecutionContext, ICudaEngine, self.Builder, self.Runtime]


def write_plan_of(path: Path, model: bytes, profile: dict[str, Any]) -> None:
    """Writes a plan file of another origin."""
    path.write_bytes(MAGIC + json.dumps(profile).encode() + b"\n" + model)


def mock_gpu_host(monkeypatch: pytest.MonkeyPatch) -> MockTensorRT:
    """Makes this machine look like one with a GPU, its driver and TensorRT."""
    driver, real = MockDriver("Mock A30"), ctypes.CDLL
    monkeypatch.setattr(hardware, "gpu_names", lambda: ["Mock A30"])
    monkeypatch.setattr(ctypes, "CDLL", lambda name, *args: driver if name == "libcuda.so.1" else real(name, *args))
    module = MockTensorRT(driver)
    monkeypatch.setitem(sys.modules, "tensorrt", module)  # type: ignore[arg-type]
    return module
