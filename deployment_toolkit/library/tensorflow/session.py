"""TensorFlow: Keras models of the user's code, SavedModels, and ONNX files made from them.

Value ranges of a SavedModel are in its ``assets.extra/model_spec.yaml``. TensorFlow reserves that folder for files that
belong to a model and are not loaded by its graph.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from deployment_toolkit.core import Arrays, ModelModule, ModelSpec, Precision, TensorSpec, ValueRange
from deployment_toolkit.errors import ModelError
from deployment_toolkit.files.atomic import require_free_space
from deployment_toolkit.files.patterns import plain_name
from deployment_toolkit.library.base import SPEC_FILE, FrameworkSession, Loader, store_spec, stored_spec
from deployment_toolkit.library.tensorflow.named_model import NamedModel, named_model
from deployment_toolkit.library.tensorflow.names import require_names
from deployment_toolkit.library.tensorflow.packed import PackedFunction
from deployment_toolkit.library.tensorflow.precision import narrowest
from deployment_toolkit.library.tensorflow.shapes import batch_shape, row_shape, weights_bytes
from deployment_toolkit.library.tensorflow.to_onnx import write_onnx
from deployment_toolkit.machine import limited_cores
from deployment_toolkit.options.params import select_keywords
from deployment_toolkit.options.plugins import call_function, load_module

SIGNATURE = "serving_default"


class KerasLoader(Loader):
    """A module with ``get_model`` -> its Keras model. ``options`` are keyword arguments of the module's functions."""

    def __init__(self, *, threads: int | None = None, **options: Any) -> None:
        super().__init__(threads=threads)
        self._options = options

    def load(self, path: Path) -> FrameworkSession:
        _set_threads(self._threads)
        module = load_module(path, ModelModule)
        made = call_function(module.get_model, str(path), select_keywords(module.get_model, self._options))
        return KerasSession(named_model(made, str(path)), self._value_ranges(module))

    def read_spec(self, path: Path) -> ModelSpec:
        return self.load(path).spec

    def _value_ranges(self, module: Any) -> Mapping[str, ValueRange]:
        function = getattr(module, "get_value_ranges", None)
        return {} if function is None else function(**select_keywords(function, self._options))


class TensorFlowSession(FrameworkSession):
    """Session of ``function``, a concrete function that takes the inputs by name and returns a dict."""

    function: Any

    @functools.cached_property
    def _packed(self) -> PackedFunction:
        """Packed form of the function, made on first use; an export does not need it."""
        return PackedFunction(self.function, self.spec.inputs)

    def infer_impl(self, x: Arrays) -> Arrays:
        """Raises ModelError too if TensorFlow refuses a value."""
        try:
            return self._packed(x)
        except tf.errors.InvalidArgumentError as error:
            raise ModelError(f"the model can't answer these rows: {_refused(error)}") from error


class KerasSession(TensorFlowSession):
    """A Keras model of a user's module; ``function`` is its graph, taking the inputs by name."""

    def __init__(self, named: NamedModel, value_ranges: Mapping[str, ValueRange]) -> None:
        require_names(spec.name for spec in named.inputs)

        def serve(**x: Any) -> Any:
            return named.answer(x)

        signature = {spec.name: tf.TensorSpec(batch_shape(spec.shape), spec.dtype, spec.name) for spec in named.inputs}
        self.model = named.model
        self.function = tf.function(serve, autograph=False).get_concrete_function(**signature)
        super().__init__(ModelSpec(named.inputs, _output_specs(self.function)).with_value_ranges(value_ranges))


class SavedModelLoader(Loader):
    """A SavedModel folder -> its ``serving_default`` signature."""

    def load(self, path: Path) -> FrameworkSession:
        _set_threads(self._threads)
        return SavedModelSession(path)

    def read_spec(self, path: Path) -> ModelSpec:
        return stored_spec(path) or self.load(path).spec

    def precision(self, path: Path) -> Precision:
        return narrowest(path)


class SavedModelSession(TensorFlowSession):
    """A loaded SavedModel. ``model`` owns the variables that ``function`` uses."""

    def __init__(self, path: Path) -> None:
        if not (path / "saved_model.pb").is_file():
            raise ModelError(f"{path} is not a SavedModel folder (it has no saved_model.pb): export the model first")
        try:
            with plain_name(path) as plain:  # TensorFlow looks for the weights with a pattern
                self.model = tf.saved_model.load(str(plain))
        except (tf.errors.OpError, OSError, ValueError, LookupError, RuntimeError) as error:  # depends on the reader
            raise ModelError(f"{path} can't be loaded by TensorFlow {tf.__version__}: {error}") from error
        if SIGNATURE not in self.model.signatures:
            raise ModelError(f"{path} has no signature {SIGNATURE}, only {sorted(self.model.signatures)}")
        self.function = self.model.signatures[SIGNATURE]
        require_names(self.function.structured_input_signature[1])
        inputs = tuple(
            TensorSpec(name, spec.dtype.name, row_shape(spec.shape))
            for name, spec in self.function.structured_input_signature[1].items()
        )
        spec = ModelSpec(inputs, _output_specs(self.function))
        super().__init__(spec.described_by(stored_spec(path)))

    def save_as(self, target: Path, serve: Callable[..., Any], spec: ModelSpec) -> None:
        """Writes the folder ``target``: the model with the signature ``spec``, whose graph ``serve`` builds around
        ``function``. Raises ModelError for a name of an input that TensorFlow can't take."""
        require_names(tensor.name for tensor in spec.inputs)
        signature = {
            tensor.name: tf.TensorSpec(batch_shape(tensor.shape), tensor.dtype, tensor.name) for tensor in spec.inputs
        }
        module = tf.Module()
        module.model = self.model
        module.serve = tf.function(serve, autograph=False).get_concrete_function(**signature)
        tf.saved_model.save(module, str(target), signatures=module.serve)
        store_spec(target / SPEC_FILE, spec)


class SavedModelFromKeras:
    """Keras model -> SavedModel whose signature has the model's input and output names."""

    def save(self, session: KerasSession, path: Path) -> None:
        """Writes the folder ``path``, which must not exist. Raises DataError if the disk is too full."""
        module = tf.Module()
        module.weights = list(session.model.variables)
        require_free_space(path.parent, weights_bytes(module.weights), "the SavedModel")
        module.serve = session.function
        tf.saved_model.save(module, str(path), signatures=session.function)
        store_spec(path / SPEC_FILE, session.spec)


class OnnxFromKeras:
    """Keras model -> ONNX file."""

    def __init__(self, *, opset: int = 13) -> None:
        self._opset = opset

    def save(self, session: KerasSession, path: Path) -> None:
        """Writes the file ``path``."""
        write_onnx(session.function, session.spec, path, opset=self._opset)


class OnnxFromSavedModel:
    """SavedModel -> ONNX file."""

    def __init__(self, *, opset: int = 13) -> None:
        self._opset = opset

    def convert(self, source: Path, target: Path) -> None:
        """Writes the file ``target``."""
        session = SavedModelSession(source)
        write_onnx(session.function, session.spec, target, opset=self._opset)


def _refused(error: tf.errors.InvalidArgumentError) -> str:
    """What TensorFlow refuses, of its many lines."""
    message = str(error.message)
    lookup = re.search(r"indices\[[^]]*\] = (-?[0-9]+) is not in \[0, [0-9]+\)", message)
    if lookup is None:
        lines = (line.strip() for line in message.splitlines())
        return next((line for line in lines if line and not line.startswith("Graph execution")), message)
    padding = " (a GPU answers zeros for the padding -1, a CPU refuses it: leave it out before the lookup)"
    return f"{lookup[0]}{padding if lookup[1] == '-1' else ''}"


def _output_specs(function: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, tensor.dtype.name, row_shape(tensor.shape))
        for name, tensor in function.structured_outputs.items()
    )


def _set_threads(threads: int | None) -> None:
    """Sets the thread count of TensorFlow, which has one pool per process and can't change it once it runs. A number
    that only follows from a container's limit is left out then."""
    if threads is None:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        if threads != limited_cores():
            raise
