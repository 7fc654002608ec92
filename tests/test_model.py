from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import ModelModule
from deployment_toolkit.errors import ModelError, UsageError
from deployment_toolkit.options.params import make_parser, select_keywords
from deployment_toolkit.options.plugins import Plugin, load_module, parse_with_plugins
from deployment_toolkit.rows.sample import random_rows
from widedeep.features.options import NetworkOptions
from widedeep.features.outbrain import outbrain_spec
from widedeep.features.spec import load_feature_spec
from widedeep.model.network_description import describe_network

MODEL = ROOT / "model.py"


def options(*argv: str) -> dict[str, Any]:
    """Options of the module as a script reads them."""
    parser = make_parser("")
    parser.add_argument("--input-path")
    parser.add_argument("--input-type")
    argv = ("--input-path", str(MODEL), *argv)
    return vars(parse_with_plugins(parser, argv, [Plugin("input-path", ModelModule, "get_model")])[0])


@pytest.fixture(scope="module")
def module() -> Any:
    return load_module(MODEL, ModelModule)


def test_model_defaults_equal_those_of_the_original(module: Any) -> None:
    values = options()
    assert (values["deep_dropout"], str(values["precision"])) == (0.1, "fp16")
    described = describe_network(NetworkOptions())
    assert (described.hidden_units, str(described.combiner)) == ((1024,) * 5, "sum")
    assert (described.spec, described.embedding_widths["platform"]) == (outbrain_spec(), 19)
    ranges = module.get_value_ranges(**values)
    assert len(ranges) == 16
    assert (ranges["ad_id"], ranges["platform"], ranges["topic_id_list"]) == ((0, 249_999), (0, 3), (-1, 349))


def test_checkpoint_answers_in_both_precisions(module: Any, tiny_options: list[str], tiny_folder: Path) -> None:
    spec = load_feature_spec(tiny_folder / "feature_spec.yaml")
    x = random_rows(spec.model_spec, 50, seed=1)
    answers = {}
    for precision in ("fp32", "fp16"):
        values = options(*tiny_options, "--precision", precision)
        model, call_fn = module.get_model(**select_keywords(module.get_model, values))
        answers[precision] = call_fn(x).numpy()
        assert sorted(model.inputs) == [feature.name for feature in spec.inputs]
        assert (answers[precision].shape, answers[precision].dtype) == ((50, 1), np.float32)
        assert module.get_value_ranges(**values) == spec.value_ranges
    assert np.ptp(answers["fp32"]) > 0.1
    assert 0 < np.abs(answers["fp32"] - answers["fp16"]).max() < 5e-3


def test_options_that_do_not_fit_the_checkpoint_are_refused(
    module: Any, tiny_options: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="belongs to another model"):
        module.get_model(**options(*tiny_options, "--deep-hidden-units", "8"))
    with pytest.raises(ModelError, match="there is no checkpoint in"):
        module.get_model(**options(*tiny_options, "--checkpoint-dir", str(tmp_path)))
    with pytest.raises(UsageError, match=r"'fp64' \(choose from 'fp32', 'fp16'\)"):
        options("--precision", "fp64")
