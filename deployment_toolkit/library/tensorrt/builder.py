"""Conversion of ONNX to a TensorRT plan (Python API of TensorRT 10)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployment_toolkit.core import ModelSpec, Precision, TensorSpec, shape_fits
from deployment_toolkit.errors import ConversionError, UsageError
from deployment_toolkit.files.atomic import require_free_space
from deployment_toolkit.hardware import require_gpu
from deployment_toolkit.library.base import SPEC_KEY
from deployment_toolkit.library.model_files import require_onnx_file
from deployment_toolkit.library.onnx.reading import read_onnx
from deployment_toolkit.library.shape_profile import ShapeProfile
from deployment_toolkit.library.tensorrt.api import (
    DEFAULT_WORKSPACE_BYTES,
    import_tensorrt,
    make_logger,
    numpy_dtype,
    require_workspace,
)
from deployment_toolkit.library.tensorrt.cuda_memory import CudaMemory
from deployment_toolkit.library.tensorrt.plan import PlanBuild, write_plan

logger = logging.getLogger("convert")


class TensorRTFromOnnx:
    """ONNX file -> plan folder for the GPU and the TensorRT version of this machine.

    ``precisions`` are the number formats the builder may use in addition to fp32, which is always allowed: ``fp16``
    and ``int8`` set the flags of these names, ``tf32`` (on by TensorRT's default) is off unless it is among them.
    ``int8`` needs an ONNX file with QuantizeLinear nodes; nothing is calibrated here. ``strict_types`` binds every
    computing layer to the narrowest floating point format among ``precisions``; the build fails if a layer can't run in
    it. ``explicit_precision`` takes every layer's type from the file (a strongly typed network); it excludes TensorRT's
    precision flags. ``max_workspace_size_bytes`` is the GPU memory a layer may use in addition to weights and
    activations. ``profiles`` has an entry for each input with an open dimension.
    """

    def __init__(
        self,
        *,
        precisions: tuple[Precision, ...] = (Precision.FP32,),
        explicit_precision: bool = False,
        strict_types: bool = False,
        sparse_weights: bool = False,
        max_workspace_size_bytes: int = DEFAULT_WORKSPACE_BYTES,
        profiles: Mapping[str, ShapeProfile],
    ) -> None:
        if not precisions:
            raise UsageError("a TensorRT plan needs at least one precision: give fp32")
        if explicit_precision and strict_types:
            raise UsageError(
                "--tensorrt-explicit-precision takes every layer's type from the file: leave out strict types"
            )
        require_workspace(max_workspace_size_bytes)
        self._precisions = tuple(precisions)
        self._explicit = explicit_precision
        self._strict = strict_types
        self._sparse = sparse_weights
        self._workspace_bytes = max_workspace_size_bytes
        self._profiles = dict(profiles)

    def convert(self, source: Path, target: Path) -> None:
        """Writes the folder ``target``. Raises DeviceError if there is no GPU, ModelError if there is no TensorRT 10 or
        the source is no ONNX file, ConversionError, with TensorRT's message, if it can't build the plan."""
        require_gpu("building a TensorRT plan")
        trt = import_tensorrt()
        stored = self._read_stored(source)
        cuda = CudaMemory()
        try:
            log = make_logger(trt)
            builder = trt.Builder(log)
            network = self._parse(trt, builder, log, source)
            config = self._configure(trt, builder, network)
            logger.info("building a plan with TensorRT %s on %s", trt.__version__, cuda.device_name)
            plan = builder.build_serialized_network(network, config)
            if plan is None:
                raise ConversionError(f"TensorRT {trt.__version__} can't build a plan of {source}: {_told(log)}")
            spec = _network_spec(trt, network).described_by(stored)
            require_free_space(target.parent, plan.nbytes, "the TensorRT plan")
            build = PlanBuild(trt.__version__, cuda.device_name, tuple(map(str, self._precisions)))
            write_plan(target, memoryview(plan), spec, build)
        finally:
            cuda.close()

    def _read_stored(self, source: Path) -> ModelSpec | None:
        """Signature that is stored in the file; the file must be quantised if int8 is requested."""
        require_onnx_file(source)
        model = read_onnx(source, with_external_data=False)
        quantised = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
        if Precision.INT8 in self._precisions and not quantised:
            raise ConversionError(
                f"int8 needs a quantised ONNX file and {source} has no QuantizeLinear node: quantise it first, or use "
                "fp16"
            )
        stored = next((item.value for item in model.metadata_props if item.key == SPEC_KEY), None)
        return None if stored is None else ModelSpec.read(stored, str(source))

    def _parse(self, trt: Any, builder: Any, log: Any, source: Path) -> Any:
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if self._explicit else 0
        network = builder.create_network(flags)
        parser = trt.OnnxParser(network, log)
        if not parser.parse_from_file(str(source)):
            errors = [parser.get_error(index) for index in range(parser.num_errors)]
            told = "; ".join(f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in errors)
            raise ConversionError(f"TensorRT {trt.__version__} can't read {source}: {told or _told(log)}")
        return network

    def _configure(self, trt: Any, builder: Any, network: Any) -> Any:
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self._workspace_bytes)
        if Precision.TF32 in self._precisions:
            config.set_flag(trt.BuilderFlag.TF32)
        else:
            config.clear_flag(trt.BuilderFlag.TF32)
        if not self._explicit:
            for precision, flag in ((Precision.FP16, "FP16"), (Precision.INT8, "INT8")):
                if precision in self._precisions:
                    config.set_flag(getattr(trt.BuilderFlag, flag))
        if self._sparse:
            config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
        if self._strict:
            config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
            _bind_layers(trt, network, trt.float16 if Precision.FP16 in self._precisions else trt.float32)
        self._add_profile(builder, network, config)
        return config

    def _add_profile(self, builder: Any, network: Any, config: Any) -> None:
        inputs = [network.get_input(index) for index in range(network.num_inputs)]
        unknown = sorted(self._profiles.keys() - {tensor.name for tensor in inputs})
        if unknown:
            raise UsageError(f"a shape profile is given for {unknown[0]}, which is no input of the model")
        profile = builder.create_optimization_profile()
        for tensor in inputs:
            shape = tuple(tensor.shape)
            if tensor.name in self._profiles:
                wanted = self._profiles[tensor.name]
                _require_fit(tensor.name, shape, wanted)
                profile.set_shape(tensor.name, wanted.min, wanted.opt, wanted.max)
            elif -1 in shape:
                raise UsageError(f"input {tensor.name} is {list(shape)}: it needs a shape profile (min, opt, max)")
        if config.add_optimization_profile(profile) < 0:
            raise ConversionError(f"TensorRT takes no such shape profiles: {self._profiles}")


def _require_fit(name: str, shape: tuple[int, ...], profile: ShapeProfile) -> None:
    for told in (profile.min, profile.opt, profile.max):
        if not shape_fits(told, shape):
            raise UsageError(f"shape {list(told)} in the profile of input {name} does not fit {list(shape)}")


def _bind_layers(trt: Any, network: Any, dtype: Any) -> None:
    """Sets ``dtype`` for the arithmetic and outputs of floating point layers; the network's inputs and outputs keep
    their types."""
    floats = (trt.float32, trt.float16)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        outputs = [(position, layer.get_output(position)) for position in range(layer.num_outputs)]
        fixed = layer.type in (trt.LayerType.CONSTANT, trt.LayerType.CAST, trt.LayerType.SHAPE)
        if fixed or not outputs or any(tensor.dtype not in floats for _, tensor in outputs):
            continue
        layer.precision = dtype
        for position, tensor in outputs:
            if tensor.is_execution_tensor and not tensor.is_network_output:
                layer.set_output_type(position, dtype)


def _network_spec(trt: Any, network: Any) -> ModelSpec:
    def tensor_spec(tensor: Any) -> TensorSpec:
        return TensorSpec(tensor.name, numpy_dtype(trt, tensor.name, tensor.dtype), tuple(tensor.shape)[1:])

    return ModelSpec(
        tuple(tensor_spec(network.get_input(index)) for index in range(network.num_inputs)),
        tuple(tensor_spec(network.get_output(index)) for index in range(network.num_outputs)),
    )


def _told(log: Any) -> str:
    return "; ".join(log.errors) or "no reason was given, probably for want of GPU memory"
