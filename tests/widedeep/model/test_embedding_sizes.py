from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployment_toolkit.errors import DataError
from widedeep.features.spec import Feature, FeatureSpec
from widedeep.model.embedding_sizes import embedding_sizes_to_json, load_embedding_sizes

SPEC = FeatureSpec(
    numerical=(Feature("price", "float32"),),
    onehot=(Feature("ad", "int32", 20), Feature("platform", "int32", 4)),
    multihot=(Feature("tags", "int32", 7, 3),),
    label=Feature("clicked", "int32"),
    group_id=None,
)
DEFAULTS = {"ad": 64, "platform": 19, "tags": 64}


@pytest.mark.parametrize(
    ("name", "text", "widths"),
    [
        ("sizes.yaml", "ad: 3\nplatform: 4\ntags: 5\n", {"ad": 3, "platform": 4, "tags": 5}),
        ("sizes.json", '{\n\t"ad": 3,\n\t"tags": 5}', {"ad": 3, "platform": 19, "tags": 5}),
        ("sizes.json", embedding_sizes_to_json({"tags": 5}), {"ad": 64, "platform": 19, "tags": 5}),
        ("empty.yaml", "", DEFAULTS),
    ],
)
def test_embedding_sizes_come_from_the_file_or_the_defaults(
    tmp_path: Path, name: str, text: str, widths: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_text(text)
    with caplog.at_level(logging.INFO):
        assert load_embedding_sizes(tmp_path / name, SPEC) == widths
    left_out = [feature for feature in DEFAULTS if feature not in text]
    assert all(f"{feature} {DEFAULTS[feature]}" in caplog.text for feature in left_out)
    assert load_embedding_sizes(None, SPEC) == DEFAULTS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ad: 3\nadd: 3\n", "2: add is no categorical feature of the specification, did you mean ad?"),
        ("ad: 3\nprice: 3\n", "2: price is a number, it has no embedding: leave it out"),
        ("ad: 3\nad: 4\n", "2: key 'ad' is there twice, first in line 1: leave one out"),
        ("tags: 3\nad: 0\n", "2: the width of ad must be a whole number of at least 1, not 0"),
        ("ad: 3.5\n", "1: the width of ad must be a whole number of at least 1, not 3.5"),
        ("ad: true\n", "1: the width of ad must be a whole number of at least 1, not True"),
        ("ad: [3]\n", "1: the width of ad must be a whole number of at least 1, not a list"),
        ("ad:\n", "1: the width of ad must be a whole number of at least 1, not nothing"),
        ("- ad\n- 3\n", "1: embedding sizes: expected keys and values, found a list"),
        ('{"ad": 3', "1: not YAML: "),
    ],
)
def test_embedding_sizes_error_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sizes.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as raised:
        load_embedding_sizes(path, SPEC)
    assert str(raised.value).startswith(f"{path}:{message}")
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed") / "sizes.yaml"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(text=st.one_of(st.text(), st.text("ad: {}[]-\n0123'\"&*!<#|>%@", max_size=30)))
def test_random_text_gives_embedding_sizes_or_one_line(fuzzed: Path, text: str) -> None:
    fuzzed.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert set(load_embedding_sizes(fuzzed, SPEC)) == set(DEFAULTS)
    except DataError as error:
        assert str(fuzzed) in str(error) and "\n" not in str(error)
