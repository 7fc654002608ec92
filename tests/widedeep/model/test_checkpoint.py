from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from deployment_toolkit.errors import ModelError
from tests.limits import few_resources
from tests.mutations import damaged
from widedeep.features.spec import Feature, FeatureSpec
from widedeep.model.checkpoint import checkpoint_names, checkpoint_tree, load_checkpoint, save_checkpoint
from widedeep.model.network import Network, build_network

SPEC = FeatureSpec(
    numerical=(Feature("price", "float32"),),
    onehot=(Feature("ad", "int32", 20),),
    multihot=(Feature("tags", "int32", 7, 3),),
    label=Feature("clicked", "int32"),
    group_id=Feature("display_id", "int32"),
)
FIVE = (4, 4, 4, 4, 4)
WIDTHS = {"ad": 4, "tags": 4, "zone": 4}


def network(seed: int = 0, spec: FeatureSpec = SPEC, widths: dict[str, int] = WIDTHS, **options: Any) -> Network:
    """A network with weights that depend on the seed, in the wide half too."""
    made = build_network(spec, widths, **({"hidden_units": FIVE} | options))
    generator = np.random.default_rng(seed)
    for variable in checkpoint_names(made).values():
        variable.assign(generator.normal(size=variable.shape))
    return made


def weights(made: Network) -> list[Any]:
    return [variable.numpy() for variable in checkpoint_names(made).values()]


def test_variables_have_the_names_of_the_original(tmp_path: Path) -> None:
    prefix = save_checkpoint(network(), tmp_path)
    names = {f"dnn_model/layer_with_weights-0/{feature}.Sembedding_weights" for feature in ("ad", "tags")}
    names |= {f"dnn_model/layer_with_weights-{layer}/{part}" for layer in range(1, 7) for part in ("kernel", "bias")}
    names |= {f"linear_model/layer_with_weights-0/{name}.Sembedding_weights" for name in ("ad", "tags", "numeric")}
    names |= {"linear_model/layer_with_weights-0/bias"}
    found = dict(tf.train.list_variables(str(prefix)))
    stored = {name for name in found if name.startswith("model/")}
    assert stored == {f"model/{name}/.ATTRIBUTES/VARIABLE_VALUE" for name in names}
    assert found["model/dnn_model/layer_with_weights-1/kernel/.ATTRIBUTES/VARIABLE_VALUE"] == [4 + 1 + 4, 4]
    assert found["model/dnn_model/layer_with_weights-6/kernel/.ATTRIBUTES/VARIABLE_VALUE"] == [4, 1]


def test_weights_load_from_a_folder_with_the_letters_of_patterns(tmp_path: Path) -> None:
    saved, loaded = network(seed=1), network(seed=2)
    save_checkpoint(saved, tmp_path / "it's [2] *")
    load_checkpoint(loaded, tmp_path / "it's [2] *")
    np.testing.assert_array_equal(weights(saved)[0], weights(loaded)[0])


def test_weights_load_from_a_moved_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved = network(seed=1)
    save_checkpoint(saved, Path("here"))
    shutil.move("here", "there")
    for directory in (Path("there"), tmp_path / "there"):
        loaded = network(seed=2)
        load_checkpoint(loaded, directory)
        assert all(map(np.array_equal, weights(loaded), weights(saved)))


def test_latest_of_several_checkpoints_is_loaded(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        checkpoint = tf.train.Checkpoint(model=checkpoint_tree(network(number)))
        checkpoint.write(str(tmp_path / f"ckpt-{number}"))
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "ckpt-2"\n'
        + "".join(f'all_model_checkpoint_paths: "ckpt-{number}"\n' for number in (1, 3, 2))
    )
    loaded = network(seed=9)
    load_checkpoint(loaded, tmp_path)
    assert all(map(np.array_equal, weights(loaded), weights(network(2))))


def test_optimizer_state_in_a_checkpoint_is_ignored(tmp_path: Path) -> None:
    saved = network(seed=1)
    optimizer = tf.keras.optimizers.legacy.Adam()  # its slots are stored under the variables' names
    variables = saved.trainable_variables
    optimizer.apply_gradients([(tf.zeros_like(variable), variable) for variable in variables])
    checkpoint = tf.train.Checkpoint(model=checkpoint_tree(saved), optimizer=optimizer, current_step=tf.Variable(3))
    tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=1).save()
    loaded = network(seed=2)
    load_checkpoint(loaded, tmp_path)
    assert all(map(np.array_equal, weights(loaded), weights(saved)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"hidden_units": (4, 4)},
            "6 unexpected: dnn_model/layer_with_weights-4/bias, dnn_model/layer_with_weights-4/kernel, "
            "dnn_model/layer_with_weights-5/bias, dnn_model/layer_with_weights-5/kernel, "
            "dnn_model/layer_with_weights-6/bias, dnn_model/layer_with_weights-6/kernel; "
            "2 of another shape: dnn_model/layer_with_weights-3/bias [4] instead of [1], "
            "dnn_model/layer_with_weights-3/kernel [4, 4] instead of [4, 1]. "
            "Give the options it was trained with: --deep-hidden-units 4 4 4 4 4",
        ),
        (
            {"spec": dataclasses.replace(SPEC, onehot=(Feature("zone", "int32", 20),))},
            "2 missing: dnn_model/layer_with_weights-0/zone.Sembedding_weights, "
            "linear_model/layer_with_weights-0/zone.Sembedding_weights; "
            "2 unexpected: dnn_model/layer_with_weights-0/ad.Sembedding_weights, "
            "linear_model/layer_with_weights-0/ad.Sembedding_weights. "
            "Give the options it was trained with: --feature-spec (numbers: 1; cardinalities: ad 20, tags 7), "
            "--embedding-sizes (ad: 4)",
        ),
        (
            {"spec": dataclasses.replace(SPEC, multihot=(Feature("tags", "int32", 8, 3),))},
            "2 of another shape: dnn_model/layer_with_weights-0/tags.Sembedding_weights [7, 4] instead of [8, 4], "
            "linear_model/layer_with_weights-0/tags.Sembedding_weights [7, 1] instead of [8, 1]. "
            "Give the options it was trained with: --feature-spec (numbers: 1; cardinalities: ad 20, tags 7)",
        ),
        (
            {"widths": {"ad": 6, "tags": 4}},
            "2 of another shape: dnn_model/layer_with_weights-0/ad.Sembedding_weights [20, 4] instead of [20, 6], "
            "dnn_model/layer_with_weights-1/kernel [9, 4] instead of [11, 4]. "
            "Give the options it was trained with: --embedding-sizes (ad: 4)",
        ),
    ],
)
def test_variables_that_do_not_fit_are_named(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    save_checkpoint(network(), tmp_path)
    other = network(seed=5, **options)
    before = weights(other)
    with pytest.raises(ModelError) as raised:
        load_checkpoint(other, tmp_path)
    assert str(raised.value) == f"checkpoint {tmp_path} belongs to another model: variables {told}"
    assert all(map(np.array_equal, weights(other), before))


def test_checkpoint_of_another_program_is_refused(tmp_path: Path) -> None:
    checkpoint = tf.train.Checkpoint(encoder=tf.Variable([1.0]))
    tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=1).save()
    with pytest.raises(ModelError, match=r"18 missing: .*; 2 unexpected: encoder, save_counter\. .* no ch"):
        load_checkpoint(network(), tmp_path)


def test_folder_without_a_checkpoint_is_reported(tmp_path: Path) -> None:
    message = r"there is no checkpoint in .*: train one \(scripts/train.sh\) or give --checkpoint-dir"
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "checkpoint").write_text("no checkpoint at all")
    (tmp_path / "file").touch()
    for name in ("none", "empty", "other", "file"):
        with pytest.raises(ModelError, match=message):
            load_checkpoint(network(), tmp_path / name)


def test_damaged_checkpoint_is_reported(tmp_path: Path) -> None:
    save_checkpoint(network(), tmp_path)
    (data,) = tmp_path.glob("*.data-*")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"checkpoint .* can't be read: .*; copy or train it again"):
        load_checkpoint(network(), tmp_path)


def test_checkpoint_that_is_damaged_anyhow_is_reported(tmp_path: Path) -> None:
    save_checkpoint(network(), tmp_path / "good")
    told = 0
    for file in sorted((tmp_path / "good").iterdir()):
        for content in damaged(file.read_bytes(), 12, (b'"\xff"', b"9" * 30)):
            shutil.copytree(tmp_path / "good", tmp_path / "copy")
            (tmp_path / "copy" / file.name).write_bytes(content)
            empty = network()
            with few_resources():
                try:
                    load_checkpoint(empty, tmp_path / "copy")
                except ModelError:
                    told += 1
            shutil.rmtree(tmp_path / "copy")
    assert told
