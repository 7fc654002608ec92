from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.rows.sample import random_rows
from widedeep.features.options import Combiner
from widedeep.features.spec import Feature, FeatureSpec
from widedeep.model.checkpoint import checkpoint_names
from widedeep.model.network import Network, build_network

# "ad" comes before "ad_age", its embedding "ad_embedding" after it
NUMERICAL = (Feature("price", "float32"), Feature("ad_age", "float32"))
ONEHOT = (Feature("zone", "int32", 6), Feature("ad", "int32", 20))
MULTIHOT = (Feature("tags", "int32", 7, 3), Feature("ad_tags", "int64", 5, 2))
WIDTHS = {"zone": 3, "ad": 4, "tags": 5, "ad_tags": 2}
ROWS = 50

Weights = dict[str, Array]


def spec_of(*features: Feature) -> FeatureSpec:
    label, group = Feature("clicked", "int32"), Feature("display_id", "int32")
    numerical, onehot, multihot = (tuple(f for f in kind if f in features) for kind in (NUMERICAL, ONEHOT, MULTIHOT))
    return FeatureSpec(numerical, onehot, multihot, label, group)


def built(spec: FeatureSpec, **options: Any) -> tuple[Network, Weights]:
    """A network with random weights, and the weights by their short names in a checkpoint."""
    network = build_network(spec, WIDTHS, hidden_units=(6, 5), **options)
    generator = np.random.default_rng(3)
    weights: Weights = {}
    for name, variable in checkpoint_names(network).items():
        variable.assign(generator.normal(0, 0.5, variable.shape))
        weights[name.removeprefix("model/").removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")] = variable.numpy()
    return network, weights


def expected(spec: FeatureSpec, weights: Weights, x: Arrays, combiner: Combiner) -> Array:
    """The network in numpy, row by row."""
    numbers = [feature.name for feature in spec.numerical]
    categories = [feature.name for feature in (*spec.onehot, *spec.multihot)]
    answers = []
    for row in range(ROWS):
        present = {name: [i for i in x[name][row] if i != -1] for name in categories}
        wide = weights["linear_model/layer_with_weights-0/bias"][0]
        for name in categories:
            table = weights[f"linear_model/layer_with_weights-0/{name}.Sembedding_weights"]
            wide += sum(table[i, 0] for i in present[name])
        for number, name in enumerate(sorted(numbers)):
            kernel = weights["linear_model/layer_with_weights-0/numeric.Sembedding_weights"]
            wide += x[name][row, 0] * kernel[number, 0]
        columns = {name: x[name][row] for name in numbers}
        for name in categories:
            table = weights[f"dnn_model/layer_with_weights-0/{name}.Sembedding_weights"]
            total = np.sum([table[i] for i in present[name]], axis=0) if present[name] else np.zeros(WIDTHS[name])
            if combiner is Combiner.MEAN and len(present[name]) > 1:
                total = total / len(present[name])
            columns[f"{name}_embedding"] = total
        deep = np.concatenate([columns[name] for name in sorted(columns)])
        first = 1 if categories else 0  # without tables the embedding layer has no weights
        for layer in range(first, first + 3):
            kernel = weights[f"dnn_model/layer_with_weights-{layer}/kernel"]
            deep = deep @ kernel + weights[f"dnn_model/layer_with_weights-{layer}/bias"]
            deep = deep if layer == first + 2 else np.maximum(deep, 0)
        answers.append(1 / (1 + np.exp(-(wide + deep))))
    return np.array(answers)


def inputs(spec: FeatureSpec) -> Arrays:
    """Random rows with some empty and some full lists."""
    x = random_rows(spec.model_spec, ROWS, seed=5)
    for feature in spec.multihot:
        x[feature.name][0] = -1
        x[feature.name][1] = (feature.cardinality or 0) - 1
    return x


@pytest.mark.parametrize("combiner", list(Combiner))
@pytest.mark.parametrize(
    "features",
    [NUMERICAL + ONEHOT + MULTIHOT, ONEHOT + MULTIHOT, NUMERICAL + MULTIHOT, NUMERICAL + ONEHOT, NUMERICAL, MULTIHOT],
    ids=["all", "no numbers", "no one-hot", "no multi-hot", "only numbers", "only multi-hot"],
)
def test_network_answers_equal_the_formula(features: tuple[Feature, ...], combiner: Combiner) -> None:
    spec = spec_of(*features)
    network, weights = built(spec, combiner=combiner)
    x = inputs(spec)
    answer = network(x).numpy()
    wanted = expected(spec, weights, x, combiner)
    assert (answer.dtype, answer.shape) == (np.float32, (ROWS, 1))
    assert np.ptp(wanted) > 0.3
    np.testing.assert_allclose(answer, wanted, rtol=0, atol=2e-6)


def test_fp16_network_computes_in_fp16_and_stores_fp32() -> None:
    spec = spec_of(*NUMERICAL, *ONEHOT, *MULTIHOT)
    network, weights = built(spec, compute_dtype="float16")
    x = inputs(spec)
    answer = network(x).numpy()
    assert {variable.dtype for variable in network.variables} == {tf.float32}
    difference = np.abs(answer - expected(spec, weights, x, Combiner.SUM)).max()
    assert answer.dtype == np.float32 and 1e-5 < difference < 1e-2


def test_dropout_acts_in_training_only() -> None:
    spec = spec_of(*NUMERICAL, *ONEHOT)
    network, _ = built(spec, dropout=0.5)
    x = inputs(spec)
    still, again = network.logits(x).numpy(), network.logits(x).numpy()
    shaken, same, other = (network.logits(x, tf.random.Generator.from_seed(seed)).numpy() for seed in (1, 1, 2))
    assert np.array_equal(still, again) and not np.array_equal(still, shaken)
    assert np.array_equal(shaken, same) and not np.array_equal(shaken, other)


def test_dropout_keeps_the_mean_of_the_units() -> None:
    """A network whose logit is the sum of 4000 units of 1."""
    spec = spec_of(NUMERICAL[0])
    network = build_network(spec, {}, hidden_units=(4000,), dropout=0.25)
    for name, variable in checkpoint_names(network).items():
        variable.assign(tf.fill(variable.shape, 1.0 if re.search("dnn_model/.*(-0/bias|-1/kernel)", name) else 0.0))
    x = {NUMERICAL[0].name: np.zeros((1, 1), np.float32)}
    assert network.logits(x).numpy().item() == 4000
    dropped = network.logits(x, tf.random.Generator.from_seed(1)).numpy().item()
    assert 4000 * 0.96 < dropped < 4000 * 1.04 and dropped != 4000


def test_new_weights_depend_on_the_seed_and_have_the_spread_of_glorot() -> None:
    spec = dataclasses.replace(spec_of(*NUMERICAL), onehot=(Feature("word", "int32", 700),))
    made = [checkpoint_names(build_network(spec, {"word": 100}, hidden_units=(300,), seed=seed)) for seed in (1, 1, 2)]
    table, kernel = (
        f"model/dnn_model/layer_with_weights-{name}/.ATTRIBUTES/VARIABLE_VALUE"
        for name in ("0/word.Sembedding_weights", "1/kernel")
    )
    for name, shape in ((table, (700, 100)), (kernel, (102, 300))):
        first, same, other = (weights[name].numpy() for weights in made)
        assert first.shape == shape and np.array_equal(first, same) and not np.array_equal(first, other)
        np.testing.assert_allclose(first.std(), np.sqrt(2 / sum(shape)), rtol=0.02)
    zeros = {name for name, weights in made[0].items() if not weights.numpy().any()}
    assert zeros == {name for name in made[0] if "linear_model" in name or "/bias/" in name}
