from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.errors import DataError
from widedeep.feature_spec import Feature, FeatureSpec, load_feature_spec
from widedeep.outbrain import embedding_widths, outbrain_spec


def plain(**changes: Any) -> dict[str, Any]:
    """A specification as its original could be written, without dtypes; ``changes`` are keyed ``section__name``."""
    sections: dict[str, Any] = {
        "feature_spec": {
            "price": {},
            "age": None,
            "ad": {"cardinality": 20},
            "tags": {"cardinality": 7, "max_hotness": 3},
            "clicked": {},
            "display": {},
        },
        "source_spec": {
            "train": [{"type": "parquet", "features": ["price"], "files": ["a/*.parquet", "b.parquet"]}],
            "test": [{"type": "parquet", "features": ["price"], "files": ["valid/*.parquet"]}],
        },
        "channel_spec": {
            "numerical": ["price", "age"],
            "onehot_categorical": ["ad"],
            "multihot_categorical": ["tags"],
            "label": ["clicked"],
            "map": ["display"],
        },
        "metadata": {},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            sections[section][name] = value
        else:
            sections[section] = value
    return sections


def load(tmp_path: Path, sections: object) -> FeatureSpec:
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(sections))
    return load_feature_spec(path)


def test_a_specification_is_read(tmp_path: Path) -> None:
    spec = load(tmp_path, plain())
    assert spec.numerical == (Feature("price", "float32"), Feature("age", "float32"))
    assert (spec.onehot, spec.multihot) == ((Feature("ad", "int32", 20),), (Feature("tags", "int32", 7, 3),))
    assert (spec.label, spec.group_id) == (Feature("clicked", "float32"), Feature("display", "int64"))
    assert spec.files == {"train": ("a/*.parquet", "b.parquet"), "test": ("valid/*.parquet",)}


def test_the_signature_has_shapes_and_ranges(tmp_path: Path) -> None:
    spec = load(tmp_path, plain(feature_spec__ad={"cardinality": 20, "dtype": "int64"}))
    assert spec.model_spec == ModelSpec(
        inputs=(
            TensorSpec("ad", "int64", (1,), (0, 19)),
            TensorSpec("age", "float32", (1,)),
            TensorSpec("price", "float32", (1,)),
            TensorSpec("tags", "int32", (3,), (-1, 6)),
        ),
        outputs=(TensorSpec("wide_deep_model", "float32", (1,)),),
    )


def test_the_outbrain_specification_survives_its_file(tmp_path: Path) -> None:
    spec = outbrain_spec({"train": ("train/*.parquet",), "valid": ("valid/*.parquet",)})
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    assert load_feature_spec(tmp_path / "spec.yaml") == spec
    kinds = (len(spec.numerical), len(spec.onehot), len(spec.multihot))
    widths = embedding_widths(spec)
    assert (kinds, widths["ad_id"], widths["platform"], widths["topic_id_list"]) == ((13, 13, 3), 128, 19, 64)


@pytest.mark.parametrize("channel", ["numerical", "onehot_categorical", "multihot_categorical"])
def test_a_channel_may_be_empty(tmp_path: Path, channel: str) -> None:
    sections = plain()
    names = sections["channel_spec"].pop(channel)
    assert {feature.name for feature in load(tmp_path, sections).inputs} == {"price", "age", "ad", "tags"} - {*names}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"channel_spec__label": ["klicked"]},
            r"channel label names \['klicked'\], which feature_spec does not define",
        ),
        ({"channel_spec__label": []}, "channel label must name one feature, it names 0"),
        ({"channel_spec__map": ["display", "ad"]}, "channel map must name one feature, it names 2"),
        ({"channel_spec__numerical": "price"}, "channel numerical must be a list of features, not 'price'"),
        ({"channel_spec__numerical": ["price", "ad"]}, "ad: named twice"),
        ({"channel_spec__numerical": ["price", "price"]}, "price: named twice"),
        ({"channel_spec": {"label": ["clicked"], "map": ["display"]}}, "are all empty: name the inputs"),
        ({"channel_spec": ["price"]}, "lacks its section channel_spec"),
        ({"feature_spec": None}, "lacks its section feature_spec"),
        ({"feature_spec__ad": {}}, "onehot_categorical feature ad needs a cardinality of at least 1, not None"),
        ({"feature_spec__ad": {"cardinality": 0}}, "ad needs a cardinality of at least 1, not 0"),
        ({"feature_spec__ad": 20}, "feature ad must have keys as cardinality, max_hotness and dtype, not 20"),
        ({"feature_spec__tags": {"cardinality": 7}}, "feature tags needs a max_hotness of at least 1"),
        ({"feature_spec__ad": {"cardinality": 20, "dtype": "float32"}}, "ad is of dtype float32: write one of int32"),
        (
            {"feature_spec__price": {"dtype": "flot32"}},
            "numerical feature price is of dtype flot32: write one of float32",
        ),
        ({"source_spec__train": [{"type": "parquet"}]}, "source_spec must map names as train to a list of chunks"),
        ({"source_spec": ["train"]}, "source_spec must map names"),
    ],
)
def test_a_contradiction_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"feature specification .*spec\.yaml:? .*{message}"):
        load(tmp_path, plain(**changes))


def test_what_is_no_specification_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"spec\.yaml can't be read: .*No such file"):
        load_feature_spec(tmp_path / "spec.yaml")
    with pytest.raises(DataError, match="lacks its section feature_spec"):
        load(tmp_path, ["price"])
    (tmp_path / "spec.yaml").write_text("a: [b")
    with pytest.raises(DataError, match=r"spec\.yaml is not YAML"):
        load_feature_spec(tmp_path / "spec.yaml")
