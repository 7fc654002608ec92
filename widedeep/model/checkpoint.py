"""Checkpoints in the original's layout, written and read by variable name.

Under ``model/``: ``dnn_model/layer_with_weights-0/<feature>.Sembedding_weights``,
``dnn_model/layer_with_weights-<n>/{kernel,bias}`` (the last is the output), and
``linear_model/layer_with_weights-0/{<feature>.Sembedding_weights,numeric.Sembedding_weights,bias}``, each followed by
``/.ATTRIBUTES/VARIABLE_VALUE``.
"""

from __future__ import annotations

import re
from pathlib import Path

import tensorflow as tf

from deployment_toolkit.errors import ModelError
from deployment_toolkit.files.patterns import plain_name
from widedeep.model.network import Network

_PREFIX = "model/"
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_LAYER = re.compile(r"dnn_model/layer_with_weights-(\d+)/bias")
_TABLE = re.compile(r"dnn_model/layer_with_weights-0/(.+)\.Sembedding_weights")

Shapes = dict[str, tuple[int, ...]]


def save_checkpoint(network: Network, directory: Path) -> Path:
    """Writes the weights into ``directory`` as its latest checkpoint; returns their path prefix."""
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(model=checkpoint_tree(network)), str(directory), max_to_keep=1
    )
    return Path(manager.save())


def load_checkpoint(network: Network, directory: Path) -> None:
    """Fills the network with the latest checkpoint of ``directory``.

    Raises ModelError if there is none, if it can't be read, or if its variables are not this network's. The error then
    names the missing variables, the unexpected ones and those of another shape, and the options that would fit.
    """
    prefix = _latest(directory)
    if not prefix or not Path(f"{prefix}.index").is_file():
        raise ModelError(
            f"there is no checkpoint in {directory}: train one (scripts/train.sh) or give --checkpoint-dir a folder "
            "that holds a file named 'checkpoint' and its data"
        )
    try:
        with plain_name(Path(prefix).parent) as folder:
            reader = tf.train.load_checkpoint(str(folder / Path(prefix).name))
            stored = {
                name: tuple(shape)
                for name, shape in reader.get_variable_to_shape_map().items()
                if name.endswith(_SUFFIX) and ".OPTIMIZER_SLOT" not in name
            }
            # In addition to the model, a checkpoint may hold counters and optimizers.
            found = {name: shape for name, shape in stored.items() if name.startswith(_PREFIX)} or stored
            variables = checkpoint_names(network)
            _check_same(directory, {name: tuple(variable.shape) for name, variable in variables.items()}, found)
            for name, variable in variables.items():
                variable.assign(reader.get_tensor(name))
    except (tf.errors.OpError, ValueError, RuntimeError, LookupError) as error:  # the reader raises several kinds
        raise ModelError(f"checkpoint {prefix} can't be read: {error}; copy or train it again") from error


def _latest(directory: Path) -> str:
    """Path prefix of the latest checkpoint, from the folder's file ``checkpoint``; empty if there is none."""
    try:
        # latest_checkpoint would take letters of the path for a pattern.
        state = tf.train.get_checkpoint_state(str(directory)) if directory.is_dir() else None
    except ValueError as error:  # it is no text
        raise ModelError(
            f"{directory / 'checkpoint'} can't be read: {error}; copy or train the checkpoint again"
        ) from error
    return "" if state is None else str(state.model_checkpoint_path)


def checkpoint_tree(network: Network) -> tf.train.Checkpoint:
    """The network as the original's checkpoints have it: two halves with numbered layers."""
    return tf.train.Checkpoint(
        **{
            half: tf.train.Checkpoint(**{name: tf.train.Checkpoint(**weights) for name, weights in layers.items()})
            for half, layers in _layers(network).items()
        }
    )


def checkpoint_names(network: Network) -> dict[str, tf.Variable]:
    """Variables of the network by their names in a checkpoint."""
    return {
        # TensorFlow writes a slash that belongs to a name in this way.
        f"{_PREFIX}{half}/{layer}/{name.replace('/', '.S')}{_SUFFIX}": variable
        for half, layers in _layers(network).items()
        for layer, weights in layers.items()
        for name, variable in weights.items()
    }


def _layers(network: Network) -> dict[str, dict[str, dict[str, tf.Variable]]]:
    """Variables by half, layer and name; layers without variables don't count."""
    halves = {"linear_model": network.linear_model.layers, "dnn_model": network.dnn_model.layers}
    return {
        half: {f"layer_with_weights-{number}": dict(layer) for number, layer in enumerate(filter(None, layers))}
        for half, layers in halves.items()
    }


def _check_same(directory: Path, wanted: Shapes, found: Shapes) -> None:
    wanted = {_short(name): shape for name, shape in wanted.items()}
    found = {_short(name): shape for name, shape in found.items()}
    problems = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "of another shape": [
            f"{name} {list(found[name])} instead of {list(wanted[name])}"
            for name in sorted(wanted.keys() & found.keys())
            if wanted[name] != found[name]
        ],
    }
    if any(problems.values()):
        told = "; ".join(f"{len(names)} {kind}: {', '.join(names)}" for kind, names in problems.items() if names)
        raise ModelError(
            f"checkpoint {directory} belongs to another model: variables {told}. Give the options it was trained with: "
            f"{_fitting_options(wanted, found)}"
        )


def _fitting_options(wanted: Shapes, found: Shapes) -> str:
    """Options of the network that has the found variables, as far as the variables determine them."""
    if not any(map(_LAYER.fullmatch, found)):
        return "this is no checkpoint of a Wide & Deep network, choose another --checkpoint-dir"
    options = []
    units = _hidden_units(found)
    if units != _hidden_units(wanted):
        options.append(f"--deep-hidden-units {' '.join(map(str, units))}")
    tables, own = _tables(found), _tables(wanted)
    if _wide_half(wanted) != _wide_half(found):  # a weight per category and number, independent of the embeddings
        sizes = ", ".join(f"{name} {shape[0]}" for name, shape in sorted(tables.items()))
        numbers = found.get("linear_model/layer_with_weights-0/numeric.Sembedding_weights", (0,))[0]
        options.append(f"--feature-spec (numbers: {numbers}; cardinalities: {sizes or 'none'})")
    widths = [f"{name}: {tables[name][1]}" for name in sorted(tables) if own.get(name, (0, 0))[1] != tables[name][1]]
    if widths:
        options.append(f"--embedding-sizes ({', '.join(widths)})")
    return ", ".join(options) or "--feature-spec and --embedding-sizes"


def _hidden_units(shapes: Shapes) -> list[int]:
    layers = sorted((int(match[1]), shape[0]) for name, shape in shapes.items() if (match := _LAYER.fullmatch(name)))
    return [units for _, units in layers[:-1]]  # the last layer is the output


def _tables(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return {match[1]: shape for name, shape in shapes.items() if (match := _TABLE.fullmatch(name))}


def _wide_half(shapes: Shapes) -> Shapes:
    return {name: shape for name, shape in shapes.items() if name.startswith("linear_model/")}


def _short(name: str) -> str:
    return name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
