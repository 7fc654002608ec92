"""Demo data: raw Outbrain CSVs, in Kaggle's schema and shaped like the real ones, with clicks that a model can learn.

    python -m widedeep.synthetic --output-dir datasets/raw --displays 40000 --seed 1

The same options give the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from deployment_toolkit.core import Array
from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import replace_when_complete
from deployment_toolkit.files.scratch import entries
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from widedeep.preprocessing.times import DAY_MS
from widedeep.synthetic_world import PLATFORMS, THEMES, Tags, World, make_world

LOGGER = logging.getLogger("synthetic")

# Shares of displays by number of ads, as measured on a sample of the real clicks.
ADS_PER_DISPLAY = {2: 8, 3: 9, 4: 32, 5: 9, 6: 26, 7: 1, 8: 7, 9: 7, 10: 2, 11: 0.3, 12: 0.3}
PLATFORM_SHARES = {"1": 31.3, "2": 52.3, "3": 16.2, "\\N": 0.2}
SHARE_IN_CONTEXT = 0.3  # share of a display's ads that are drawn from the ads of the page's theme
DISPLAYS_PER_CHUNK = 100_000
# The real clicks_train.csv holds days 0 to 10 in full and half of days 11 and 12; the rest is the contest's test set.
TRAIN_DAYS = np.array([1.0] * 11 + [0.5] * 2)


@dataclass(frozen=True)
class SyntheticOptions:
    """Options of ``python -m widedeep.synthetic``."""

    output_dir: Path = option("folder to make; must not exist, or be empty")
    displays: int = option("number of displays (page views with ads, one click each)", 40_000)
    seed: int = option("the same seed gives the same files", 1)

    def __post_init__(self) -> None:
        if self.displays < 1:
            raise UsageError(f"--displays must be at least 1, not {self.displays}")
        if self.seed < 0:
            raise UsageError(f"--seed must be at least 0, not {self.seed}")
        if self.output_dir.exists() and not self.output_dir.is_dir():
            raise UsageError(f"--output-dir {self.output_dir} is a file: give a folder")
        if self.output_dir.is_dir() and entries(self.output_dir):
            raise UsageError(f"--output-dir {self.output_dir} holds files: give another folder or remove it")


@dataclass(frozen=True)
class Displays:
    """Consecutive displays; ``display``, ``ad`` and ``clicked`` have a value per shown ad, the others per display."""

    timestamp_ms: Array
    page: Array
    platform: Array
    place: Array
    display: Array
    ad: Array
    clicked: Array


def generate(options: SyntheticOptions) -> None:
    """Writes the seven CSVs; the folder appears when all of them are complete."""
    rng = np.random.default_rng(options.seed)
    with replace_when_complete(options.output_dir) as beside:
        beside.mkdir()
        world = make_world(rng, options.displays)
        _write_displays(beside, world, options.displays, rng)
        _write_catalogue(beside, world)


def draw_displays(world: World, day: Array, rng: np.random.Generator) -> Displays:
    """Draws displays at the given times (in days, ascending), each with its ads in random order and one click."""
    count = len(day)
    timestamp_ms = (day * DAY_MS).astype(np.int64)
    share_of_time = np.minimum(day / len(TRAIN_DAYS), 1.0)
    page = world.pages.items(rng.choice(len(world.pages.popularity), count, p=world.pages.popularity), share_of_time)
    shares = np.array(list(PLATFORM_SHARES.values()))
    platform = rng.choice(len(shares), count, p=shares / shares.sum())
    place = rng.choice(len(world.places), count, p=world.place_popularity)
    weights = np.array(list(ADS_PER_DISPLAY.values()))
    size = rng.choice(list(ADS_PER_DISPLAY), count, p=weights / weights.sum())
    display = np.repeat(np.arange(count), size)
    ad = world.ads.items(_draw_ad_slots(world, display, world.theme[page], rng), share_of_time[display])
    utility = world.appeal(
        page[display], ad, platform[display] % PLATFORMS, place[display], timestamp_ms[display]
    ) + rng.gumbel(size=len(ad))
    best = np.repeat(np.maximum.reduceat(utility, np.cumsum(size) - size), size)
    return Displays(timestamp_ms, page, platform, place, display, ad, (utility == best).astype(np.int64))


def _draw_ad_slots(world: World, display: Array, theme: Array, rng: np.random.Generator) -> Array:
    """Draws one slot of ads per row by popularity, none twice in a display."""
    popularity = world.ads.popularity
    everywhere = np.cumsum(popularity)
    theme_of_slot = world.theme[world.ad_document[: len(popularity)]]
    by_theme = np.argsort(theme_of_slot, kind="stable")
    theme_of = theme_of_slot[by_theme]
    inside = np.empty(len(by_theme))
    for number in range(THEMES):
        shares = popularity[by_theme][theme_of == number]
        inside[theme_of == number] = number + np.cumsum(shares) / shares.sum()

    def by_popularity(rows: int) -> Array:
        return np.minimum(np.searchsorted(everywhere, rng.random(rows), side="right"), len(everywhere) - 1)

    in_context = rng.random(len(display)) < SHARE_IN_CONTEXT
    position = np.searchsorted(inside, theme[display] + rng.random(len(display)), side="right")
    ad = np.where(in_context, by_theme[np.minimum(position, len(by_theme) - 1)], by_popularity(len(display)))
    while True:
        pair = display * len(everywhere) + ad
        repeated = np.ones(len(pair), dtype=bool)
        repeated[np.unique(pair, return_index=True)[1]] = False
        if not repeated.any():
            break
        ad[repeated] = by_popularity(int(repeated.sum()))
    return np.asarray(ad[np.lexsort((rng.random(len(ad)), display))])


def _write_displays(folder: Path, world: World, count: int, rng: np.random.Generator) -> None:
    """Writes clicks_train.csv and events.csv; the latter also has the views of the contest's test days, without
    clicks."""
    cut = np.append(0.0, np.cumsum(TRAIN_DAYS)) / TRAIN_DAYS.sum()
    days = np.arange(len(cut))
    with (
        (folder / "clicks_train.csv").open("w", newline="") as clicks,
        (folder / "events.csv").open("w", newline="") as events,
        tqdm(total=count, desc="clicks", unit=" displays", mininterval=1.0, delay=2.0) as progress,
    ):
        for first, rows in _chunks(count):
            quantile = (first + np.sort(rng.random(rows)) * rows) / count
            drawn = draw_displays(world, np.interp(quantile, cut, days), rng)
            _clicks_frame(world, drawn, first + 1).to_csv(clicks, index=False, header=first == 0)
            _events_frame(world, drawn, first + 1, rng).to_csv(events, index=False, header=first == 0)
            progress.update(rows)
        for first, rows in _chunks(count // 10):
            day = len(days) - 1 + 2 * (first + np.sort(rng.random(rows)) * rows) / (count // 10)
            drawn = draw_displays(world, day, rng)
            _events_frame(world, drawn, count + first + 1, rng).to_csv(events, index=False, header=False)


def _chunks(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, DISPLAYS_PER_CHUNK):
        yield first, min(DISPLAYS_PER_CHUNK, count - first)


def _clicks_frame(world: World, drawn: Displays, first_id: int) -> pd.DataFrame:
    columns = {"display_id": first_id + drawn.display, "ad_id": world.ad_id[drawn.ad], "clicked": drawn.clicked}
    return pd.DataFrame(columns)


def _events_frame(world: World, drawn: Displays, first_id: int, rng: np.random.Generator) -> pd.DataFrame:
    rows = len(drawn.page)
    return pd.DataFrame(
        {
            "display_id": np.arange(first_id, first_id + rows),
            "uuid": [f"{user:014x}" for user in rng.integers(0, 2**56, rows)],
            "document_id": world.document_id[drawn.page],
            "timestamp": drawn.timestamp_ms,
            "platform": np.array(list(PLATFORM_SHARES))[drawn.platform],
            "geo_location": world.places[drawn.place],
        }
    )


def _write_catalogue(folder: Path, world: World) -> None:
    """Writes the five tables about ads and documents."""
    promoted = {
        "ad_id": world.ad_id,
        "document_id": world.document_id[world.ad_document],
        "campaign_id": world.ad_campaign + 1,
        "advertiser_id": world.ad_advertiser + 1,
    }
    pd.DataFrame(promoted).sort_values("ad_id").to_csv(folder / "promoted_content.csv", index=False)
    publish_time = np.full(len(world.publish_ms), "NaT", dtype="datetime64[ms]")
    known = ~np.isnan(world.publish_ms)
    publish_time[known] = world.publish_ms[known].astype(np.int64).astype("datetime64[ms]")
    meta = {
        "document_id": world.document_id,
        "source_id": np.where(world.source == 0, np.nan, world.source),  # floats, as in the real file
        "publisher_id": np.where(world.publisher == 0, np.nan, world.publisher),
        "publish_time": publish_time,
    }
    pd.DataFrame(meta).to_csv(folder / "documents_meta.csv", index=False, date_format="%Y-%m-%d %H:%M:%S")
    tables = {
        "topic": (world.topics, np.arange(300)),
        "category": (world.categories, 1_000 + 11 * np.arange(97)),
        "entity": (world.entities, world.entity_names),
    }
    for name, (tags, names) in tables.items():
        plural = {"topic": "topics", "category": "categories", "entity": "entities"}[name]
        frame = _tags_frame(world, tags, f"{name}_id", names)
        frame.to_csv(folder / f"documents_{plural}.csv", index=False)


def _tags_frame(world: World, tags: Tags, column: str, names: Array) -> pd.DataFrame:
    document, slot = np.nonzero(tags.confidences)
    return pd.DataFrame(
        {
            "document_id": world.document_id[document],
            column: names[tags.ids[document, slot]],
            "confidence_level": tags.confidences[document, slot],
        }
    )


def main(argv: list[str]) -> None:
    """Entry point of ``python -m widedeep.synthetic``."""
    parser = make_parser("Writes demo data: raw Outbrain CSVs with clicks that a model can learn.")
    add_dataclass(parser, SyntheticOptions)
    options = from_args(SyntheticOptions, parser.parse_args(argv))
    generate(options)
    LOGGER.info("%s displays written to %s", f"{options.displays:,}", options.output_dir)


if __name__ == "__main__":
    run_entry_point(main)
