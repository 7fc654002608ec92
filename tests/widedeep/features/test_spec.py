from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.errors import DataError
from widedeep.features.outbrain import embedding_widths, outbrain_spec
from widedeep.features.spec import Feature, FeatureSpec, load_feature_spec

# As the original writes it: no dtypes, the group id in the test mapping only.
GOOD = """\
channel_spec:
  label:
  - clicked
  map:
  - display
  multihot_categorical:
  - tags
  numerical:
  - price
  - age
  onehot_categorical:
  - ad
feature_spec:
  ad:
    cardinality: 20
  age: {}
  clicked: {}
  display: {}
  price:
  tags:
    cardinality: 7
    max_hotness: 3
metadata: {}
source_spec:
  test:
  - features:
    - clicked
    - ad
    - tags
    - price
    - age
    - display
    files:
    - valid/part_0.parquet
    type: parquet
  train:
  - features:
    - clicked
    - ad
    - tags
    - price
    - age
    files:
    - train/part_0.parquet
    - train/part_1.parquet
    type: parquet
"""


def load(tmp_path: Path, text: str) -> FeatureSpec:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    return load_feature_spec(path)


def changed(old: str, new: str, text: str = GOOD) -> str:
    assert old in text
    return text.replace(old, new, 1)


def test_specification_of_the_original_is_read(tmp_path: Path) -> None:
    spec = load(tmp_path, GOOD)
    assert spec.numerical == (Feature("price", "float32"), Feature("age", "float32"))
    assert (spec.onehot, spec.multihot) == ((Feature("ad", "int32", 20),), (Feature("tags", "int32", 7, 3),))
    assert (spec.label, spec.group_id) == (Feature("clicked", "float32"), Feature("display", "int64"))
    assert spec.files == {"train": ("train/part_0.parquet", "train/part_1.parquet"), "test": ("valid/part_0.parquet",)}


def test_signature_has_shapes_and_value_ranges(tmp_path: Path) -> None:
    spec = load(tmp_path, changed("    cardinality: 20\n", "    cardinality: 20\n    dtype: int64\n"))
    assert spec.model_spec == ModelSpec(
        inputs=(
            TensorSpec("ad", "int64", (1,), (0, 19)),
            TensorSpec("age", "float32", (1,)),
            TensorSpec("price", "float32", (1,)),
            TensorSpec("tags", "int32", (3,), (-1, 6)),
        ),
        outputs=(TensorSpec("wide_deep_model", "float32", (1,)),),
    )


def test_outbrain_specification_is_unchanged_after_writing_and_loading(tmp_path: Path) -> None:
    spec = outbrain_spec({"train": ("train/*.parquet",), "test": ("valid/*.parquet",)})
    assert load(tmp_path, spec.to_yaml()) == spec
    kinds = (len(spec.numerical), len(spec.onehot), len(spec.multihot))
    widths = embedding_widths(spec)
    assert (kinds, widths["ad_id"], widths["platform"], widths["topic_id_list"]) == ((13, 13, 3), 128, 19, 64)


@pytest.mark.parametrize("empty", ["  multihot_categorical: []\n", "  multihot_categorical:\n", ""])
def test_channel_may_be_empty(tmp_path: Path, empty: str) -> None:
    spec = load(tmp_path, changed("  multihot_categorical:\n  - tags\n", empty))
    assert spec.multihot == () and len(spec.inputs) == 3


def test_group_id_is_optional(tmp_path: Path) -> None:
    spec = load(tmp_path, changed("  map:\n  - display\n", "  map: []\n"))
    assert spec.group_id is None
    assert load(tmp_path, spec.to_yaml()) == spec


def test_yaml_aliases_may_merge_and_repeat_values(tmp_path: Path) -> None:
    text = changed("  ad:\n    cardinality: 20\n", "  ad: &id\n    cardinality: 20\n    dtype: int64\n")
    text = changed("  tags:\n    cardinality: 7\n", "  tags:\n    <<: *id\n    cardinality: 7\n", text)
    assert load(tmp_path, text).multihot == (Feature("tags", "int64", 7, 3),)


BAD = {
    # what: (text, line, message)
    "empty": ("", 1, "the feature specification lacks its section feature_spec, add it"),
    "a list": ("- price\n", 1, "feature specification: expected keys and values, found a list"),
    "no YAML": ("feature_spec: {ad\n  b: [", 2, "not YAML: "),
    "two documents": ("a: 1\n---\nb: 2\n", 2, "not YAML: but found another document"),
    "unknown section": (changed("metadata:", "meta_data:"), 23, "unknown key 'meta_data', did you mean metadata?"),
    "section missing": ("feature_spec: {}\n", 1, "lacks its section channel_spec, add it"),
    "section twice": (GOOD + "metadata: {}\n", 47, "key 'metadata' is there twice, first in line 23: leave one out"),
    "feature twice": (changed("  age: {}\n", "  ad: {}\n"), 16, "key 'ad' is there twice, first in line 14"),
    "a number as a name": (changed("  age: {}\n", "  2: {}\n"), 16, "the key 2 is no text: put it into quotes"),
    "a channel that isn't one": (
        changed("  numerical:", "  numeric:"),
        8,
        "channel_spec: unknown key 'numeric', did you mean numerical?",
    ),
    "a channel that is no list": (
        changed("  numerical:\n  - price\n  - age\n", "  numerical: price\n"),
        8,
        "channel numerical: expected a list, found 'price'",
    ),
    "undefined": (
        changed("  - ad\n", "  - add\n"),
        12,
        "channel onehot_categorical names add, which feature_spec does",
    ),
    "twice in a channel": (
        changed("  - age\n", "  - price\n"),
        10,
        "price is in channel numerical, and in numerical (line 9): a feature belongs to one",
    ),
    "in two channels": (
        changed("  numerical:\n", "  numerical:\n  - ad\n"),
        13,
        "ad is in channel onehot_categorical, and in numerical (line 9): a feature belongs to one",
    ),
    "the label as an input": (
        changed("  - age\n", "  - clicked\n"),
        3,
        "clicked is in channel label, and in numerical (line 10)",
    ),
    "no label": (changed("  label:\n  - clicked\n", ""), 1, "channel label must name one feature, it names 0"),
    "two labels": (
        changed("  - clicked\n", "  - clicked\n  - bought\n").replace("  age: {}", "  age: {}\n  bought: {}"),
        2,
        "channel label must name one feature, it names 2",
    ),
    "two group ids": (
        changed("  - display\n", "  - display\n  - user\n").replace("  age: {}", "  age: {}\n  user: {}"),
        4,
        "channel map may name one feature, the group id, it names 2",
    ),
    "a name of several words": (
        changed("  - age\n", "  - my age\n").replace("  age: {}", "  my age: {}"),
        10,
        "'my age' can't be the name of an input (a letter, then letters, digits or underscores): rename the column",
    ),
    "a name that is taken": (
        changed("  - ad\n", "  - numeric\n").replace("  ad:", "  numeric:"),
        12,
        "the name numeric is taken, it is the weights of all numbers in checkpoints: rename the column",
    ),
    "a name of TensorFlow's": (
        changed("  - ad\n", "  - self\n").replace("  ad:", "  self:"),
        12,
        "the name self is taken, it is a parameter of TensorFlow's functions, which take the inputs beside it: rename",
    ),
    "a word of Python": (
        changed("  - ad\n", "  - class\n").replace("  ad:", "  class:"),
        12,
        "the name class is taken, it is a word of Python, which TensorFlow's functions can't take: rename the column",
    ),
    "cardinality out of range": (
        changed("20", "1" + "0" * 30),
        15,
        "cardinality of onehot_categorical feature ad must be at most 9223372036854775807, not 10000",
    ),
    "hotness out of range": (
        changed("max_hotness: 3", "max_hotness: 3000000"),
        22,
        "max_hotness of multihot_categorical feature tags must be at most 1000000, not 3000000",
    ),
    "a NUL in a file's name": (
        changed("- valid/part_0.parquet", '- "valid\\0.parquet"'),
        34,
        "holds a NUL character, which no name or path can: leave it out",
    ),
    "names that differ in case": (
        changed("  - age\n", "  - Price\n").replace("  age: {}", "  Price: {}"),
        10,
        "Price and price differ in nothing but case, a SavedModel can't: rename one",
    ),
    "cardinality missing": (
        changed("    cardinality: 20\n", "    dtype: int32\n"),
        14,
        "onehot_categorical feature ad needs a cardinality of at least 1, add it",
    ),
    "cardinality 0": (changed("20", "0"), 15, "cardinality of onehot_categorical feature ad must be a whole number of"),
    "cardinality of words": (changed("20", "many"), 15, "must be a whole number of at least 1, not 'many'"),
    "cardinality true": (changed("20", "true"), 15, "must be a whole number of at least 1, not True"),
    "cardinality above int32": (
        changed("20", "3000000000"),
        15,
        "ids below 3000000000 don't fit int32, which ends at 2147483647",
    ),
    "cardinality of a number": (
        changed("  age: {}", "  age: {cardinality: 4}"),
        16,
        "numerical feature age has a cardinality, which its channel doesn't have: drop it or move the feature",
    ),
    "hotness missing": (
        changed("    max_hotness: 3\n", ""),
        20,
        "multihot_categorical feature tags needs a max_hotness of at least 1, add it",
    ),
    "hotness of a one-hot": (
        changed("    cardinality: 20\n", "    cardinality: 20\n    max_hotness: 3\n"),
        16,
        "onehot_categorical feature ad has a max_hotness, which its channel doesn't have",
    ),
    "ids of floats": (
        changed("    cardinality: 20\n", "    cardinality: 20\n    dtype: float32\n"),
        16,
        "onehot_categorical feature ad is of dtype 'float32': write one of int32, int64",
    ),
    "dtype that isn't one": (changed("age: {}", "age: {dtype: flot32}"), 16, "write one of float32, float64, int32"),
    "dtype that is a list": (changed("age: {}", "age: {dtype: []}"), 16, "age is of dtype a list: write one of"),
    "unknown key": (
        changed("    cardinality: 20\n", "    cardinalty: 20\n"),
        15,
        "onehot_categorical feature ad: unknown key 'cardinalty', did you mean cardinality?",
    ),
    "a feature that is a number": (changed("age: {}", "age: 7"), 16, "age: expected keys and values, found 7"),
    "a mapping that isn't one": (changed("  test:\n", "  tset:\n"), 25, "unknown key 'tset', did you mean test?"),
    "CSV": (changed("type: parquet", "type: csv"), 35, "the type is 'csv', only parquet is read: convert the files"),
    "no type": (changed("    type: parquet\n", ""), 26, "source_spec test: a chunk lacks its key type, add it"),
    "no files": (
        changed("    - valid/part_0.parquet\n", ""),
        33,
        "source_spec test: files is empty: list the files of the chunk",
    ),
    "no chunks": (GOOD[: GOOD.index("  train:")] + "  train: []\n", 36, "source_spec train names no files"),
    "a file that is a number": (changed("valid/part_0.parquet", "7"), 34, "a file: expected a text, found 7"),
    "a chunk lists what isn't defined": (
        changed("    - ad\n", "    - add\n"),
        28,
        "source_spec test lists add, which feature_spec does not define, did you mean ad?",
    ),
    "a chunk lacks an input": (
        changed("    - tags\n", ""),
        26,
        "source_spec test lacks tags, which channel_spec uses: every chunk holds all features, list it",
    ),
    "a chunk lacks the group id": (changed("    - display\n", ""), 26, "source_spec test lacks display, which"),
    "a chunk lists a feature twice": (
        changed("    - tags\n", "    - ad\n"),
        29,
        "source_spec test lists ad twice, first in line 28: leave one out",
    ),
    "no inputs": (
        "feature_spec: {clicked: {}}\nchannel_spec: {label: [clicked]}\n",
        2,
        "the channels numerical, onehot_categorical, multihot_categorical are all empty: name the inputs",
    ),
    "an alias of itself": ("feature_spec: &a\n  ad: *a\nchannel_spec: {}\n", 2, "an alias refers to itself"),
    "a scalar that can't be": ("feature_spec:\n  ad: !!int many\nchannel_spec: {}\n", 2, "'many' can't be read as int"),
    "too deep": ("[" * 5000, 1, "nested too deeply"),
}


@pytest.mark.parametrize("what", BAD)
def test_specification_error_names_its_line(tmp_path: Path, what: str) -> None:
    text, line, message = BAD[what]
    with pytest.raises(DataError) as raised:
        load(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path / 'spec.yaml'}:{line}: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_specification_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"spec\.yaml can't be read: .*No such file"):
        load_feature_spec(tmp_path / "spec.yaml")
    (tmp_path / "spec.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(
        DataError, match=r"spec\.yaml:1: this is no UTF-8, its byte 0xff is none: save the file as UTF-8"
    ):
        load_feature_spec(tmp_path / "spec.yaml")


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.dates(),
    st.sampled_from(["ad", "price", "parquet", "int32", "train", "clicked", "cardinality"]),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3))
PLACES = [
    (),
    ("feature_spec",),
    ("feature_spec", "ad"),
    ("feature_spec", "tags", "max_hotness"),
    ("channel_spec",),
    ("channel_spec", "numerical"),
    ("channel_spec", "map"),
    ("source_spec",),
    ("source_spec", "train"),
    ("source_spec", "train", 0),
    ("source_spec", "train", 0, "files"),
    ("source_spec", "train", 0, "features"),
]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_random_values_give_a_specification_or_one_line(
    fuzzed: Path, place: tuple[str | int, ...], value: object
) -> None:
    plain = yaml.safe_load(GOOD)
    target = plain
    for step in place[:-1]:
        target = target[step]
    if place:
        target[place[-1]] = value
    try:
        load(fuzzed, yaml.safe_dump(plain if place else value))
    except DataError as error:
        assert re.match(rf"{re.escape(str(fuzzed / 'spec.yaml'))}:\d+: [^\n]+$", str(error))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(start=st.integers(0, len(GOOD)), length=st.integers(0, 40), text=st.text(max_size=8))
def test_random_text_gives_a_specification_or_one_line(fuzzed: Path, start: int, length: int, text: str) -> None:
    (fuzzed / "spec.yaml").write_bytes((GOOD[:start] + text + GOOD[start + length :]).encode("utf-8", "surrogatepass"))
    try:
        load_feature_spec(fuzzed / "spec.yaml")
    except DataError as error:
        assert "spec.yaml" in str(error) and "\n" not in str(error)
