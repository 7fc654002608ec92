"""Model of a user's ``get_model``, of this project's contract or the original's, called by its inputs' names.

In this project's contract the model is a Keras model with a dict of inputs, or a ``tf.Module`` that states its
signature: ``inputs``, {name: ``tf.TensorSpec`` of a batch}, and ``output_names`` in the order in which ``call_fn``
returns the outputs (not needed if it returns a dict); ``call_fn`` takes a dict of inputs. In the original's contract it
is a Keras model with a list of inputs, whose layers name them, and ``call_fn(*tensors)`` takes them in the order of the
list.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from deployment_toolkit.core import TensorSpec
from deployment_toolkit.errors import ModelError
from deployment_toolkit.library.tensorflow.shapes import row_shape

_OURS = "this project's contract (a dict of inputs)"
_ORIGINAL = "the original's contract (a list of inputs)"
_Kind = inspect.Parameter


@dataclass(frozen=True)
class NamedModel:
    """A ``model`` with ``variables``, and its ``inputs``; ``answer`` makes a dict of tensors [B, ...] by output of one
    by input."""

    model: Any
    inputs: tuple[TensorSpec, ...]
    answer: Callable[[Mapping[str, Any]], dict[str, Any]]


def named_model(made: Any, where: str) -> NamedModel:
    """The model in the return value of ``get_model`` of the module ``where``. Raises ModelError, with the contract that
    it follows and what is missing, for anything but a model with inputs and a function that takes them."""
    if not isinstance(made, tuple | list) or len(made) != 2 or not callable(made[1]):
        raise ModelError(f"get_model of {where} returned a {type(made).__name__}: (model, call_fn) is wanted")
    model, call_fn = made
    tensors, by_dict = _stated_inputs(model, where) if _is_plain_module(model) else _keras_inputs(model, where)
    inputs = tuple(
        TensorSpec(name, tf.as_dtype(tensor.dtype).name, row_shape(tensor.shape)) for name, tensor in tensors.items()
    )
    ask = _caller(call_fn, list(tensors), by_dict=by_dict, where=where)
    output_names = [str(name) for name in getattr(model, "output_names", ())]
    return NamedModel(model, inputs, lambda x: _by_name(ask(x), output_names, where))


def _stated_inputs(model: Any, where: str) -> tuple[dict[str, Any], bool]:
    """Inputs that a ``tf.Module`` states, in the order of their names, and True for a model that takes a dict."""
    inputs = getattr(model, "inputs", None)
    if not inputs or not isinstance(inputs, Mapping):
        raise _no_inputs(model, where)
    for name, tensor in inputs.items():
        if not isinstance(tensor, tf.TensorSpec) or not tensor.shape.rank or tensor.shape[0] is not None:
            raise ModelError(
                f"get_model of {where} returned a {type(model).__name__} whose input {name} is {tensor}: write "
                "tf.TensorSpec((None, …), dtype), None for the rows of a batch"
            )
    return {str(name): inputs[name] for name in sorted(inputs)}, True


def _keras_inputs(model: Any, where: str) -> tuple[dict[str, Any], bool]:
    """Inputs of a Keras model in their order, and True if it takes a dict."""
    try:
        tensors, structure = list(model.inputs or ()), model.input
    except AttributeError as error:
        raise _no_inputs(model, where) from error
    if not tensors:
        raise _no_inputs(model, where)
    if isinstance(structure, Mapping):
        return {str(name): structure[name] for name in sorted(structure)}, True
    return {str(name): tensor for name, tensor in zip(model.input_names, tensors, strict=True)}, False


def _is_plain_module(model: Any) -> bool:
    return isinstance(model, tf.Module) and not _is_keras(model)


def _is_keras(model: Any) -> bool:
    """True for a layer or model of Keras, which is not imported for the question: if it isn't there, there is none."""
    layers = (getattr(sys.modules.get(f"{package}.layers"), "Layer", None) for package in ("tf_keras", "keras"))
    return isinstance(model, tuple(layer for layer in layers if layer is not None))


def _caller(
    call_fn: Callable[..., Any], names: Sequence[str], *, by_dict: bool, where: str
) -> Callable[[Mapping[str, Any]], Any]:
    """``call_fn`` as a function of a dict."""
    if _is_keras(call_fn):  # it takes what its model was made of
        return lambda x: call_fn(dict(x) if by_dict else [x[name] for name in names])
    in_order, together = (lambda x: call_fn(*(x[name] for name in names))), (lambda x: call_fn(dict(x)))
    try:
        parameters = inspect.signature(call_fn).parameters.values()
    except (TypeError, ValueError):  # a function of a library, which does not tell
        return together if by_dict else in_order
    kinds = [parameter.kind for parameter in parameters]
    if _Kind.VAR_POSITIONAL in kinds:
        return together if by_dict and _Kind.VAR_KEYWORD in kinds else in_order  # (*args, **kwargs) may be anything
    places = [one for one in parameters if one.kind in (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD)]
    needed = [one for one in places if one.default is _Kind.empty]
    if len(needed) <= 1 and places and (by_dict or len(names) > 1):
        return together
    if by_dict and {one.name for one in needed} == set(names):
        return lambda x: call_fn(**x)
    if len(needed) <= len(names) <= len(places):
        return in_order
    raise ModelError(
        f"get_model of {where} follows {_OURS if by_dict else _ORIGINAL}: its call_fn takes {len(needed)} tensors, the "
        f"model has {len(names)} inputs ({', '.join(names)}); write call_fn(*tensors), or call_fn(inputs) for a dict"
    )


def _by_name(answer: Any, names: Sequence[str], where: str) -> dict[str, Any]:
    """The answer of a call by the names of the model's outputs."""
    if isinstance(answer, Mapping):
        return dict(answer)
    parts = list(answer) if isinstance(answer, tuple | list) else [answer]
    if len(parts) != len(names):
        raise ModelError(
            f"call_fn of get_model of {where} returned {len(parts)} tensors, the model's outputs are {', '.join(names)}"
        )
    return dict(zip(names, parts, strict=True))


def _no_inputs(model: Any, where: str) -> ModelError:
    return ModelError(
        f"get_model of {where} returned a {type(model).__name__} without inputs, of which neither contract knows the "
        "names: make it by tf.keras.Model(inputs, outputs), of a dict or a list of tf.keras.Input(…, name=…), or a "
        "tf.Module with the attribute inputs, {name: tf.TensorSpec((None, …), dtype)}"
    )
