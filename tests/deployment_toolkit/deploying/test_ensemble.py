from __future__ import annotations

import pytest

from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.deploying.ensemble import Ensemble, EnsembleStep
from deployment_toolkit.deploying.model_config import parse_config
from deployment_toolkit.errors import UsageError

RAW, BUCKET = TensorSpec("ad", "object", (1,)), TensorSpec("ad", "int32", (2,), (0, 9))
AGE, SCORE = TensorSpec("age", "float32", (1,)), TensorSpec("score", "float32", (1,))
FIRST = EnsembleStep("first", 2, ModelSpec((RAW, AGE), (BUCKET,)))
LAST = EnsembleStep("last", 1, ModelSpec((BUCKET,), (SCORE,)))


def test_ensemble_chains_two_models() -> None:
    package = Ensemble("both", (FIRST, LAST), 64, version=3).package
    config = parse_config(package.config)
    assert (config.name, config.platform, config.max_batch_size) == ("both", "ensemble", 64)
    assert list(config.version_policy.specific.versions) == [3]
    assert [(tensor.name, list(tensor.dims)) for tensor in config.input] == [("ad", [1]), ("age", [1])]
    assert [tensor.name for tensor in config.output] == ["score"]
    first, last = config.ensemble_scheduling.step
    assert (first.model_name, first.model_version, dict(first.input_map)) == ("first", 2, {"ad": "ad", "age": "age"})
    assert dict(first.output_map) == {"ad": "first/ad"}, "not the raw one of the same name"
    assert (dict(last.input_map), dict(last.output_map)) == ({"ad": "first/ad"}, {"score": "score"})
    assert package.spec == ModelSpec((RAW, AGE), (SCORE,))


def test_ensemble_without_batching_has_free_first_dimensions() -> None:
    text = Ensemble("both", (FIRST, LAST), 0).package.config
    assert "max_batch_size: 0" in text
    assert [list(tensor.dims) for tensor in parse_config(text).input] == [[-1, 1], [-1, 1]]


@pytest.mark.parametrize(
    ("name", "last", "message"),
    [
        ("a b", LAST, "a model's name is made of"),
        ("last", LAST, "last is the name of one of its models"),
        (
            "both",
            EnsembleStep("last", 1, ModelSpec((AGE,), (SCORE,))),
            "last takes age, which no model before it makes",
        ),
        (
            "both",
            EnsembleStep("last", 1, ModelSpec((RAW,), (SCORE,))),
            r"ad as object\[1\], but first makes ad as int32\[2\]",
        ),
    ],
)
def test_ensemble_of_models_that_do_not_fit_is_refused(name: str, last: EnsembleStep, message: str) -> None:
    with pytest.raises(UsageError, match=f"ensemble {name} can't be made: .*{message}"):
        Ensemble(name, (FIRST, last), 64)
