from __future__ import annotations

from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError
from widedeep.data.dataset_folder import DatasetFolder
from widedeep.features.options import Combiner, NetworkOptions
from widedeep.features.outbrain import embedding_widths, outbrain_spec
from widedeep.features.spec import Feature, FeatureSpec
from widedeep.model.network_description import NetworkDescription, describe_network, load_network_description

LABEL = Feature("bought", "float32")
AD, TAGS = Feature("ad", "int64", 20), Feature("tags", "int32", 7, 3)
SHOP = FeatureSpec((), (AD,), (TAGS,), LABEL, None)
SMALL_SHOP = FeatureSpec((), (AD,), (), LABEL, None)
STORED = NetworkDescription(SHOP, {"ad": 5, "tags": 6}, (8, 9), Combiner.MEAN)


@pytest.fixture
def checkpoint_dir(tmp_path: Path) -> Path:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "network.yaml").write_text(STORED.to_yaml())
    return tmp_path / "checkpoint"


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetFolder:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "feature_spec.yaml").write_text(SMALL_SHOP.to_yaml())
    (tmp_path / "data" / "embedding_sizes.json").write_text('{"ad": 7, "gone": 2}')
    return DatasetFolder(tmp_path / "data")


def test_checkpoint_describes_its_network(checkpoint_dir: Path, dataset: DatasetFolder) -> None:
    assert describe_network(NetworkOptions(), checkpoint_dir=checkpoint_dir) == STORED
    assert describe_network(NetworkOptions(), checkpoint_dir=checkpoint_dir, dataset=dataset) == STORED


def test_checkpoint_without_a_description_has_the_original_network(tmp_path: Path) -> None:
    original = NetworkDescription(outbrain_spec(), embedding_widths(outbrain_spec()), (1024,) * 5, Combiner.SUM)
    assert describe_network(NetworkOptions(), checkpoint_dir=tmp_path) == describe_network(NetworkOptions()) == original


def test_new_network_uses_the_features_of_the_dataset(dataset: DatasetFolder) -> None:
    made = describe_network(NetworkOptions(deep_hidden_units=[4]), dataset=dataset)
    assert made == NetworkDescription(SMALL_SHOP, {"ad": 7}, (4,), Combiner.SUM)


def test_command_line_options_change_the_network(checkpoint_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SMALL_SHOP.to_yaml())
    (tmp_path / "sizes.yaml").write_text("ad: 11")
    spec, sizes = tmp_path / "spec.yaml", tmp_path / "sizes.yaml"

    def described(**options: object) -> NetworkDescription:
        return describe_network(NetworkOptions(**options), checkpoint_dir=checkpoint_dir)  # type: ignore[arg-type]

    assert described(deep_hidden_units=[3]).hidden_units == (3,)
    assert described(combiner=Combiner.SUM).combiner is Combiner.SUM
    assert described(feature_spec=spec).embedding_widths == {"ad": 5}
    assert described(feature_spec=spec, embedding_sizes=sizes).embedding_widths == {"ad": 11}
    assert described(embedding_sizes=sizes).embedding_widths == {"ad": 11, "tags": 64}
    assert described(embedding_sizes=sizes).spec == SHOP


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("combiner: mean", "combiner: max", "4: combiner is 'max': write one of sum, mean"),
        ("combiner: mean\n", "", "1: the description of the network lacks combiner"),
        ("- 8", "- 0", "2: the units of a layer must be a whole number of at least 1, not 0"),
        ("  ad: 5", "  add: 5", "6: add is no categorical feature of the specification, did you mean ad?"),
        ("cardinality: 20", "cardinality: 0", "12: cardinality of onehot_categorical feature ad must be a whole"),
        ("combiner:", "joiner:", "4: network: unknown key 'joiner'"),
    ],
)
def test_network_description_error_names_its_line(checkpoint_dir: Path, old: str, new: str, message: str) -> None:
    path = checkpoint_dir / "network.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError) as raised:
        load_network_description(path)
    assert str(raised.value).startswith(f"{path}:{message}")
