"""Types that every part shares: tensors, batches, predictions, the enumerations of the command line, and the Protocols
that user modules are checked against.

``docs/another-network.md`` explains the contracts of user modules, this project's and the original's.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from deployment_toolkit.errors import InputError, ModelError

if TYPE_CHECKING:
    import argparse

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
ValueRange = tuple[int, int]
_MOST_SIZE = 2**31 - 1


class Mnemonic(StrEnum):
    """Base of the enumerations whose values are typed on a command line or in a configuration."""

    def __repr__(self) -> str:
        return repr(self.value)  # argparse shows choices and list defaults by it


class Format(Mnemonic):
    """Storage format of a model; values of ``--model-format``, ``--input-type`` and ``--target-formats``."""

    TF_KERAS = "tf-keras"
    TF_ESTIMATOR = "tf-estimator"
    TF_SAVEDMODEL = "tf-savedmodel"
    TF_TRT = "tf-trt"
    ONNX = "onnx"
    TRT = "trt"
    OPENVINO = "openvino"
    PYT = "pyt"
    TORCHSCRIPT = "torchscript"


class Precision(Mnemonic):
    """Number format of weights and activations."""

    INT8 = "int8"
    FP16 = "fp16"
    BF16 = "bf16"
    FP32 = "fp32"
    TF32 = "tf32"


# As arithmetic of OpenVINO: its answers can't agree with float32's to the last digits.
REDUCED_PRECISIONS = (Precision.BF16, Precision.INT8)


class Accelerator(Mnemonic):
    """Execution accelerator of a native Triton backend."""

    NONE = "none"
    AMP = "amp"
    TRT = "trt"


class Batching(Mnemonic):
    """Batching in the server. ``disabled``: max_batch_size 0, inputs have no batch dimension for the server;
    ``static``: requests run as they arrive; ``dynamic``: the server joins requests."""

    DISABLED = "disabled"
    STATIC = "static"
    DYNAMIC = "dynamic"


class DeviceKind(Mnemonic):
    """Device kind of an instance group."""

    CPU = "cpu"
    GPU = "gpu"


class Host(Mnemonic):
    """Host of a model inside the server: the native backend of its format, the Python backend with a framework, or
    this project's own backend in C++ with the framework's library."""

    NATIVE = "native"
    PYTHON = "python"
    CPP = "cpp"


class LoadMethod(Mnemonic):
    """Model control of a server: ``explicit`` requests for single models, or ``poll`` of its model repository."""

    EXPLICIT = "explicit"
    POLL = "poll"


class EvaluationMode(Mnemonic):
    """Transport and load of a measurement. ``offline``: shared memory, one request at a time; ``online``: the URL's
    protocol, many concurrent requests; ``capacity``: the URL's protocol, requests that arrive at random at a given
    rate, whatever the server does."""

    OFFLINE = "offline"
    ONLINE = "online"
    CAPACITY = "capacity"


class PerformanceTool(Mnemonic):
    """The load generator."""

    PERF_ANALYZER = "perf_analyzer"
    MODEL_ANALYZER = "model_analyzer"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    ``dtype`` is a numpy name (``float32``; ``object`` for strings); ``shape`` is that of one row, without the batch
    dimension, with -1 for a dimension of any size; ``value_range`` holds the smallest and the largest value the model
    can take, both included, where there are such bounds (ids of an embedding table: 0 to cardinality - 1, with -1 for
    the padding of a multi-hot feature).

    ``columns`` are the inputs of the original signature that lie side by side in a packed input, each in as many
    columns as its row has values; a packed input has their value ranges and none of its own. Raises ModelError if they
    fill another number of columns than ``shape`` has.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    value_range: ValueRange | None = None
    columns: tuple[TensorSpec, ...] = ()

    def __post_init__(self) -> None:
        width = sum(column.row_size for column in self.columns)
        if self.columns and self.shape != (width,):
            raise ModelError(f"input {self.name} has the shape {list(self.shape)}, its columns need {[width]}")

    @property
    def row_size(self) -> int:
        """Number of values of one row; for a fixed shape."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def row_bytes(self) -> int:
        """Size of one row in bytes; for a dtype of a fixed size."""
        return int(np.dtype(self.dtype).itemsize * self.row_size)

    @property
    def smallest_shape(self) -> tuple[int, ...]:
        """The shape with 1 for each dimension of any size."""
        return tuple(1 if size == -1 else size for size in self.shape)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """True if a row may have this shape."""
        return shape_fits(shape, self.shape)

    def to_dict(self) -> dict[str, Any]:
        """Plain YAML/JSON types; ``from_dict`` is its inverse."""
        plain: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
        if self.value_range is not None:
            plain["value_range"] = list(self.value_range)
        if self.columns:
            plain["columns"] = [column.to_dict() for column in self.columns]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TensorSpec:
        """Inverse of ``to_dict``. Raises ValueError, TypeError or LookupError for values that no tensor has."""
        name, dtype, bounds = plain["name"], plain["dtype"], plain.get("value_range")
        if not isinstance(name, str) or not name:
            raise ValueError(f"the name of a tensor is {_shown(name)}")
        if not isinstance(dtype, str) or not re.fullmatch(r"[a-z]\w{0,30}", dtype):
            raise ValueError(f"{name} is of dtype {_shown(dtype)}")
        return cls(
            name=name,
            dtype=dtype,
            shape=_whole_numbers(plain["shape"], f"the shape of {name}", least=-1, most=_MOST_SIZE),
            value_range=None if bounds is None else _bounds(bounds, name),
            columns=tuple(cls.from_dict(column) for column in plain.get("columns", ())),
        )


def _bounds(found: Any, name: str) -> ValueRange:
    low, high = _whole_numbers(found, f"the value range of {name}", least=-(2**63), most=2**63 - 1)
    if low > high:
        raise ValueError(f"the value range of {name} ends at {high}, below its start {low}")
    return low, high


def _whole_numbers(found: Any, what: str, *, least: int, most: int) -> tuple[int, ...]:
    sound = isinstance(found, list | tuple) and all(type(item) is int and least <= item <= most for item in found)
    if not sound:
        raise ValueError(f"{what} is {_shown(found)}")
    return tuple(found)


def _shown(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class ModelSpec:
    """Inputs and outputs of a model, each sorted by name."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(sorted(self.inputs, key=lambda spec: spec.name)))
        object.__setattr__(self, "outputs", tuple(sorted(self.outputs, key=lambda spec: spec.name)))

    @property
    def unpacked(self) -> ModelSpec:
        """The original signature: each packed input's columns in its place."""
        if not any(spec.columns for spec in self.inputs):
            return self
        return ModelSpec(tuple(part for spec in self.inputs for part in spec.columns or (spec,)), self.outputs)

    @property
    def value_ranges(self) -> dict[str, ValueRange]:
        """Value ranges by input of the original signature, for the inputs that have them."""
        return {spec.name: spec.value_range for spec in self.unpacked.inputs if spec.value_range is not None}

    def with_value_ranges(self, ranges: Mapping[str, ValueRange]) -> ModelSpec:
        """The same model with these bounds on the inputs of its original signature; names that aren't inputs are left
        out."""

        def ranged(tensor: TensorSpec) -> TensorSpec:
            if tensor.columns:
                return replace(tensor, columns=tuple(map(ranged, tensor.columns)))
            return replace(tensor, value_range=ranges.get(tensor.name, tensor.value_range))

        return ModelSpec(tuple(map(ranged, self.inputs)), self.outputs)

    def described_by(self, stored: ModelSpec | None) -> ModelSpec:
        """The same model with the columns and the value ranges that a stored signature states for its inputs. Raises
        ModelError if stored columns don't fit the model's shapes."""
        if stored is None:
            return self
        columns = {spec.name: spec.columns for spec in stored.inputs}
        inputs = tuple(replace(spec, columns=columns.get(spec.name, spec.columns)) for spec in self.inputs)
        return ModelSpec(inputs, self.outputs).with_value_ranges(stored.value_ranges)

    def with_names(self, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> ModelSpec:
        """The same model with renamed tensors; both mappings are old name to new name. Columns keep their names."""

        def renamed(tensor: TensorSpec, names: Mapping[str, str]) -> TensorSpec:
            return replace(tensor, name=names.get(tensor.name, tensor.name))

        return ModelSpec(
            tuple(renamed(tensor, inputs) for tensor in self.inputs),
            tuple(renamed(tensor, outputs) for tensor in self.outputs),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain YAML/JSON types; ``from_dict`` is its inverse."""
        return {
            "inputs": [spec.to_dict() for spec in self.inputs],
            "outputs": [spec.to_dict() for spec in self.outputs],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ModelSpec:
        """Inverse of ``to_dict``."""
        return cls(
            inputs=tuple(TensorSpec.from_dict(item) for item in plain["inputs"]),
            outputs=tuple(TensorSpec.from_dict(item) for item in plain["outputs"]),
        )

    @classmethod
    def read(cls, stored: Any, where: str) -> ModelSpec:
        """A stored signature, that of ``to_dict`` or its JSON. Raises ModelError, which names ``where`` it is stored,
        for anything else."""
        try:
            return cls.from_dict(json.loads(stored) if isinstance(stored, str) else stored)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            told = " ".join(str(error).split())
            raise ModelError(
                f"the signature in {where} is damaged ({type(error).__name__}: {told}): make the model again"
            ) from error

    def check_inputs(self, x: Mapping[str, Array]) -> int:
        """Number of rows of a batch, after a check that this model accepts the batch.

        Raises InputError with the input's name and what is wrong: a name missing or unknown, a dtype or shape other
        than the signature's, unequal numbers of rows, or an id outside its table (feature, value and cardinality; in a
        packed input the original feature).
        """
        expected = {spec.name for spec in self.inputs}
        if x.keys() != expected:
            missing, unknown = sorted(expected - x.keys()), sorted(x.keys() - expected)
            raise InputError(f"inputs do not match the model's: missing {missing}, unknown {unknown}")
        rows = -1
        for spec in self.inputs:
            array = x[spec.name]
            if array.dtype != spec.dtype or not spec.fits(array.shape[1:]):
                raise InputError(
                    f"input {spec.name} is {array.dtype}{list(array.shape)}, "
                    f"the model takes {spec.dtype}{['batch', *spec.shape]}"
                )
            if rows not in (-1, len(array)):
                raise InputError(f"input {spec.name} has {len(array)} rows, the inputs before it have {rows}")
            rows = len(array)
            check_value_range(spec, array)
        return rows


def shape_fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """True if a shape equals the wanted one, in which -1 stands for any size."""
    return len(shape) == len(wanted) and all(want in (-1, size) for size, want in zip(shape, wanted, strict=True))


def check_value_range(spec: TensorSpec, array: Array) -> None:
    """Raises InputError naming the feature, the value and the cardinality if an id is outside ``value_range``, of the
    input or of one of its columns."""
    if not spec.columns:
        _check_range(spec, array, f"input {spec.name}")
    stop = 0
    for column in spec.columns:
        start, stop = stop, stop + column.row_size
        _check_range(column, array[:, start:stop], f"input {spec.name}: {column.name}")


def _check_range(spec: TensorSpec, array: Array, where: str) -> None:
    if spec.value_range is None or array.size == 0:
        return
    low, high = spec.value_range
    smallest, largest = array.min(), array.max()
    if smallest < low or largest > high:
        value = smallest if smallest < low else largest
        raise InputError(f"{where} holds id {value}, outside {low} .. {high} (cardinality {high + 1})")


@dataclass(frozen=True)
class Batch:
    """Rows of a dataset: ``ids`` [B] (the metrics group rows by them), inputs ``x`` and labels ``y``; every array has B
    rows."""

    ids: Array
    x: Arrays
    y: Arrays = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Prediction:
    """A batch with a model's answers: ``y_pred`` has B rows per output."""

    batch: Batch
    y_pred: Arrays


class Session(Protocol):
    """A model in a framework or on Triton that answers batches in order; the interface is one. A context manager."""

    @property
    def spec(self) -> ModelSpec: ...

    def predict(self, batches: Iterator[Batch]) -> Iterator[Prediction]: ...

    def __enter__(self) -> Session: ...

    def __exit__(self, *exc_info: object) -> None: ...


DataloaderFn = Callable[[], Iterator[tuple[Array, Arrays, Arrays]]]


@runtime_checkable
class DataloaderModule(Protocol):
    """A module for ``--dataloader``; the options of ``get_dataloader_fn`` become command line options."""

    def get_dataloader_fn(self, **options: Any) -> DataloaderFn: ...


@runtime_checkable
class ModelModule(Protocol):
    """A module for ``--input-path``: a Keras model, or a ``tf.Module`` that states its inputs, and the function that
    answers them (docs/another-network.md). May also define ``update_argparser(parser)`` and, so that ids can be
    checked, ``get_value_ranges(**options) -> {input: (lowest, highest)}``."""

    def get_model(self, **options: Any) -> tuple[Any, Callable[..., Any]]: ...


@runtime_checkable
class ArgparserModule(Protocol):
    """A module that adds its own options to a command line."""

    def update_argparser(self, parser: argparse.ArgumentParser) -> None: ...


@runtime_checkable
class MetricsCalculator(Protocol):
    """Class of this name in a module for ``--metrics``: ``update`` takes each batch, ``metrics`` is read at the end."""

    def update(self, ids: Array, y_pred: Arrays, x: Arrays | None, y_real: Arrays) -> None: ...

    @property
    def metrics(self) -> dict[str, float]: ...


class BaseMetricsCalculator(ABC):
    """Base class of a calculator in the original's contract: ``update`` is called by the names of its parameters, with
    ``ids`` as a list and without ``x`` (None) if the dump has no inputs; ``y_real`` has the names of the outputs."""

    @abstractmethod
    def update(self, ids: list[Any], y_pred: Arrays, x: Arrays | None, y_real: Arrays) -> None:
        """Adds a batch of B rows."""

    @property
    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Values of all rows so far."""


@runtime_checkable
class MetricsModule(Protocol):
    """A module for ``--metrics``: the options of its class ``MetricsCalculator`` become command line options. The class
    may name in ``lower_is_better`` the metrics for which a smaller value is better, and say in a property ``undefined``
    why metrics are NaN, {metric: reason}."""

    def MetricsCalculator(self, **options: Any) -> Any: ...
