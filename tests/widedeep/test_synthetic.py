from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deployment_toolkit.errors import UsageError
from widedeep.features.outbrain import ONEHOT
from widedeep.synthetic import ADS_PER_DISPLAY, SyntheticOptions, draw_displays, generate
from widedeep.synthetic_world import make_world

DISPLAYS = 6_000


@pytest.fixture(scope="module")
def raw_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "raw"
    generate(SyntheticOptions(folder, DISPLAYS, seed=3))
    return folder


@pytest.fixture(scope="module")
def clicks(raw_dir: Path) -> pd.DataFrame:
    return pd.read_csv(raw_dir / "clicks_train.csv")


@pytest.fixture(scope="module")
def events(raw_dir: Path) -> pd.DataFrame:
    return pd.read_csv(raw_dir / "events.csv", keep_default_na=False, dtype={"platform": str})


def test_synthetic_files_have_the_columns_of_kaggle(raw_dir: Path) -> None:
    headers = {path.name: path.open().readline().strip() for path in raw_dir.iterdir()}
    assert headers == {
        "clicks_train.csv": "display_id,ad_id,clicked",
        "events.csv": "display_id,uuid,document_id,timestamp,platform,geo_location",
        "promoted_content.csv": "ad_id,document_id,campaign_id,advertiser_id",
        "documents_meta.csv": "document_id,source_id,publisher_id,publish_time",
        "documents_topics.csv": "document_id,topic_id,confidence_level",
        "documents_entities.csv": "document_id,entity_id,confidence_level",
        "documents_categories.csv": "document_id,category_id,confidence_level",
    }


def test_synthetic_displays_have_the_real_distribution(clicks: pd.DataFrame) -> None:
    sizes = clicks.groupby("display_id").size()
    assert len(sizes) == DISPLAYS
    measured = sizes.value_counts(normalize=True)
    for size, percent in ADS_PER_DISPLAY.items():
        assert measured.get(size, 0.0) == pytest.approx(percent / sum(ADS_PER_DISPLAY.values()), abs=0.015)
    assert (clicks.groupby("display_id").clicked.sum() == 1).all()
    assert not clicks.duplicated(["display_id", "ad_id"]).any()


def test_synthetic_popularity_has_the_real_distribution(clicks: pd.DataFrame, events: pd.DataFrame) -> None:
    ads = clicks.ad_id[:10_000].value_counts()
    assert len(ads) == pytest.approx(4_319, rel=0.08)
    assert ads[:10].sum() / 10_000 == pytest.approx(0.04, abs=0.01)
    assert (ads == 1).mean() == pytest.approx(0.60, abs=0.04)
    documents = events.document_id[:1_950].value_counts()  # the displays of 10,000 rows
    assert len(documents) == pytest.approx(1_434, rel=0.08)
    assert documents[:10].sum() / 1_950 == pytest.approx(0.07, abs=0.015)


def test_synthetic_events_have_the_real_distribution(raw_dir: Path, events: pd.DataFrame) -> None:
    platforms = events.platform.value_counts(normalize=True)
    for platform, share in {"1": 0.31, "2": 0.52, "3": 0.16}.items():
        assert platforms[platform] == pytest.approx(share, abs=0.025)
    assert platforms["\\N"] > 0
    assert (events.geo_location == "").any()
    assert events.geo_location.str.startswith("US").mean() == pytest.approx(0.84, abs=0.02)
    assert (events.geo_location.str.count(">") == 2).mean() == pytest.approx(0.79, abs=0.02)
    assert events.timestamp.is_monotonic_increasing
    assert events.timestamp.between(0, 15 * 86_400_000).all()
    assert events.document_id.between(1, 1_800_000).all()
    meta = pd.read_csv(raw_dir / "documents_meta.csv")
    assert meta[["source_id", "publisher_id", "publish_time"]].isna().any().all()
    assert set(events.document_id) <= set(meta.document_id)


@pytest.mark.parametrize("displays", [1_959, 20_000])
def test_validation_meets_ads_that_training_has_not_seen(displays: int) -> None:
    """The real sample of 1,959 displays has 29 % of them."""
    rng = np.random.default_rng(5)
    world = make_world(rng, displays)
    drawn = draw_displays(world, np.sort(rng.random(displays) * 13), rng)
    valid = (rng.random(displays) < 0.27)[drawn.display]
    unseen = ~np.isin(drawn.ad[valid], drawn.ad[~valid])
    assert unseen.mean() == pytest.approx(0.25, abs=0.06)


def test_large_world_stays_within_the_default_cardinalities_and_plausible_times() -> None:
    world = make_world(np.random.default_rng(5), 10_000_000)
    assert len(world.ad_id) <= ONEHOT["ad_id"][0]
    assert len(world.document_id) <= ONEHOT["document_id"][0]
    assert len(np.unique(world.ad_document)) <= ONEHOT["document_id_promo"][0]
    assert np.nanmin(world.publish_ms) > 0


def test_confidences_have_the_real_distribution(raw_dir: Path) -> None:
    topics = pd.read_csv(raw_dir / "documents_topics.csv").confidence_level
    assert topics.between(0.008, 0.33).all()
    assert topics.mean() == pytest.approx(0.10, abs=0.01)
    categories = pd.read_csv(raw_dir / "documents_categories.csv").groupby("document_id").confidence_level
    assert (categories.size() == 2).mean() > 0.75
    assert categories.max().mean() == pytest.approx(0.92, abs=0.01)
    assert categories.min()[categories.size() == 2].mean() == pytest.approx(0.07, abs=0.01)
    for name in ("topics", "categories", "entities"):
        table = pd.read_csv(raw_dir / f"documents_{name}.csv")
        assert (table.groupby("document_id").confidence_level.diff().dropna() <= 0).all()  # the strongest first
        assert not table.duplicated(table.columns[:2].tolist()).any()


def test_row_order_does_not_show_the_click(clicks: pd.DataFrame) -> None:
    size = clicks.groupby("display_id").ad_id.transform("size")
    position = clicks.groupby("display_id").cumcount() / (size - 1)
    assert position[clicks.clicked == 1].mean() == pytest.approx(0.5, abs=0.02)


def test_clicks_prefer_ads_with_the_topic_of_the_page(
    raw_dir: Path, clicks: pd.DataFrame, events: pd.DataFrame
) -> None:
    """The data have a signal besides popularity: a page and a landing page with the same first topic."""
    topics = (
        pd.read_csv(raw_dir / "documents_topics.csv").drop_duplicates("document_id").set_index("document_id").topic_id
    )
    landing = pd.read_csv(raw_dir / "promoted_content.csv").set_index("ad_id").document_id
    page = events.set_index("display_id").document_id
    shared = clicks.display_id.map(page).map(topics).to_numpy() == clicks.ad_id.map(landing).map(topics).to_numpy()
    assert clicks.clicked[shared].mean() > 1.5 * clicks.clicked[~shared].mean()


def test_seed_determines_the_files_exactly(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate(SyntheticOptions(tmp_path / name, 50, seed))
    contents = {
        name: {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b", "c")
    }
    assert contents["a"] == contents["b"]
    assert all(contents["a"][name] != contents["c"][name] for name in contents["a"])


def test_folder_with_files_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds files"):
        SyntheticOptions(tmp_path / "raw", 10, 1)


def test_interrupted_run_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("widedeep.synthetic._write_catalogue", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(SyntheticOptions(tmp_path / "raw", 10, 1))
    assert not list(tmp_path.iterdir())
