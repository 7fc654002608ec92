"""Invented publishing world behind the demo data: documents, ads, places, and the causes of clicks.

Readers click an ad for its quality, for the likeness of its landing page to the page they read (shared topics,
categories and entities), for its freshness, and because some advertisers appeal more on some platforms, in some
places, or next to some themes. Only the first cause is popularity; a model can learn the others in addition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deployment_toolkit.core import Array
from widedeep.preprocessing.times import DAY_MS, EPOCH_MS
from widedeep.synthetic_slots import Slots, make_slots

# At a time there are so many pages, landing pages and ads. Over more displays than a sample of the real data has,
# rare ones give way to others, as often as the default cardinalities allow.
SAMPLE_DISPLAYS = 1_959
PAGES, LANDING_PAGES, ADS = 20_000, 4_000, 11_000
FREQUENT_PAGES, FREQUENT_ADS = 2_000, 2_000
MOST_GENERATIONS_OF_PAGES, MOST_GENERATIONS_OF_ADS = 11, 24
CAMPAIGNS, ADVERTISERS = 1_000, 250
PUBLISHERS, SOURCES, THEMES = 400, 1_500, 20
LARGEST_AD_ID, LARGEST_DOCUMENT_ID = 349_000, 1_800_000
LONGEST_AGE_DAYS = 40 * 365  # of a document, when the first display is shown
PLATFORMS = 3

_FREQUENT_COUNTRIES = ("US", "CA", "GB", "AU", "IN", "ZA", "DE", "PH", "SG", "NZ", "IE", "MY")


@dataclass(frozen=True)
class Tags:
    """Up to W labels per document: ``ids`` and ``confidences`` are [documents, W], absent labels have confidence 0."""

    ids: Array
    confidences: Array

    def likeness(self, left: Array, right: Array) -> Array:
        """Cosine of the labels of two documents per row, 0 to 1; ``left`` and ``right`` are document rows."""
        a, b = self.confidences[left], self.confidences[right]
        same = self.ids[left][:, :, None] == self.ids[right][:, None, :]
        shared = (same * a[:, :, None] * b[:, None, :]).sum(axis=(1, 2))
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return np.asarray(shared / np.maximum(lengths, 1e-12))


@dataclass(frozen=True)
class World:
    """Documents (first the pages that people read, then the landing pages of ads), ads, places and tastes.

    ``publish_ms`` is NaN if unknown; ``source`` and ``publisher`` are 0 if unknown.
    """

    document_id: Array
    theme: Array
    source: Array
    publisher: Array
    publish_ms: Array
    topics: Tags
    categories: Tags
    entities: Tags
    entity_names: Array
    pages: Slots
    ads: Slots
    ad_id: Array
    ad_document: Array
    ad_campaign: Array
    ad_advertiser: Array
    ad_quality: Array
    places: Array
    place_country: Array
    place_popularity: Array
    platform_taste: Array
    country_taste: Array
    theme_taste: Array

    def appeal(self, page: Array, ad: Array, platform: Array, place: Array, timestamp_ms: Array) -> Array:
        """Utility of an ad to the reader of a page, one value per row; the click goes to the ad with the largest value
        after adding Gumbel noise of scale 1."""
        landing, advertiser = self.ad_document[ad], self.ad_advertiser[ad]
        likeness = (
            4.0 * self.topics.likeness(page, landing)
            + 1.6 * self.categories.likeness(page, landing)
            + 2.5 * self.entities.likeness(page, landing)
        )
        age_days = np.maximum((EPOCH_MS + timestamp_ms - self.publish_ms[landing]) / DAY_MS, 0)
        freshness = np.nan_to_num(1.4 - 0.35 * np.log1p(age_days), nan=0.0)
        tastes = (
            self.platform_taste[platform, advertiser]
            + self.country_taste[self.place_country[place], advertiser]
            + self.theme_taste[self.theme[page], advertiser]
        )
        return np.asarray(self.ad_quality[ad] + likeness + freshness + tastes)


def make_world(rng: np.random.Generator, displays: int) -> World:
    """Makes a world for this number of displays, which depends only on it and on the generator's state."""
    generations = max(1.0, displays / SAMPLE_DISPLAYS)
    pages = make_slots(rng, zipf(PAGES, 0.85, 6), FREQUENT_PAGES, min(generations, MOST_GENERATIONS_OF_PAGES))
    ads = make_slots(rng, zipf(ADS, 1.0, 40), FREQUENT_ADS, min(generations, MOST_GENERATIONS_OF_ADS))
    landing_page = np.concatenate([np.arange(LANDING_PAGES), rng.integers(0, LANDING_PAGES, ADS - LANDING_PAGES)])
    ad_document = landing_page[ads.slot] + LANDING_PAGES * ads.generation
    landing_pages = int(ad_document.max()) + 1
    documents = len(pages.slot) + landing_pages
    # what comes after a page or an ad has its theme
    themes = rng.choice(THEMES, PAGES + LANDING_PAGES, p=zipf(THEMES, 0.7, 1))
    theme = np.concatenate([themes[:PAGES][pages.slot], np.resize(themes[PAGES:], landing_pages)])
    entity_names = np.array([f"{a:016x}{b:016x}" for a, b in rng.integers(0, 2**63, (6_000, 2))])
    campaign_of_page = rng.choice(CAMPAIGNS, landing_pages, p=zipf(CAMPAIGNS, 0.6, 5))
    advertiser_of_campaign = rng.choice(ADVERTISERS, CAMPAIGNS, p=zipf(ADVERTISERS, 0.6, 5))
    ad_campaign = campaign_of_page[ad_document]
    ad_advertiser = advertiser_of_campaign[ad_campaign]
    quality = (
        rng.normal(0, 0.25, len(ad_document)) + rng.normal(0, 0.3, CAMPAIGNS)[ad_campaign]
        + rng.normal(0, 0.3, ADVERTISERS)[ad_advertiser]
    )  # fmt: skip
    places, countries, place_popularity = _places(rng)
    return World(
        document_id=rng.choice(LARGEST_DOCUMENT_ID, documents, replace=False) + 1,
        theme=theme,
        source=np.where(rng.random(documents) < 0.01, 0, 1 + rng.choice(SOURCES, documents, p=zipf(SOURCES, 0.9, 3))),
        publisher=np.where(
            rng.random(documents) < 0.03, 0, 1 + rng.choice(PUBLISHERS, documents, p=zipf(PUBLISHERS, 0.9, 3))
        ),
        publish_ms=_publish_times(rng, documents),
        topics=_tags(rng, theme, labels=300, width=5, confidences=_topic_confidences),
        categories=_tags(rng, theme, labels=97, width=2, confidences=_category_confidences, share_full=0.85),
        entities=_tags(
            rng, theme, labels=len(entity_names), width=6, confidences=_entity_confidences, share_without=0.2, skew=1.3
        ),
        entity_names=entity_names,
        pages=pages,
        ads=ads,
        ad_id=rng.choice(LARGEST_AD_ID, len(ad_document), replace=False) + 1,
        ad_document=len(pages.slot) + ad_document,
        ad_campaign=ad_campaign,
        ad_advertiser=ad_advertiser,
        ad_quality=quality,
        places=places,
        place_country=countries,
        place_popularity=place_popularity,
        platform_taste=rng.normal(0, 0.8, (PLATFORMS, ADVERTISERS)),
        country_taste=rng.normal(0, 0.2, (int(countries.max()) + 1, ADVERTISERS)),
        theme_taste=rng.normal(0, 0.35, (THEMES, 4)) @ rng.normal(0, 0.7, (4, ADVERTISERS)),
    )


def zipf(count: int, exponent: float, offset: float) -> Array:
    """Shares of ``count`` items by rank, proportional to (rank + offset) ** -exponent, with sum 1."""
    shares = (np.arange(1, count + 1) + offset) ** -exponent
    return np.asarray(shares / shares.sum())


def _tags(
    rng: np.random.Generator,
    theme: Array,
    *,
    labels: int,
    width: int,
    confidences: Callable[[np.random.Generator, int, int], Array],
    share_without: float = 0.05,
    share_full: float = 0.0,
    skew: float = 0.6,
) -> Tags:
    """Draws labels, mostly of the document's theme: label l belongs to theme l % THEMES. ``share_full`` of the
    documents have ``width`` labels, the others 0 or any number up to it."""
    documents, shape = len(theme), (len(theme), width)
    own = labels // THEMES
    of_theme = theme[:, None] + THEMES * rng.choice(own, shape, p=zipf(own, skew, 1))
    ids = np.where(rng.random(shape) < 0.8, of_theme, rng.integers(0, labels, shape))
    count = np.where(rng.random(documents) < share_full, width, rng.integers(1, width + 1, documents))
    count = np.where(rng.random(documents) < share_without, 0, count)
    present = np.arange(width) < count[:, None]
    for column in range(1, width):
        present[:, column] &= (ids[:, [column]] != ids[:, :column]).all(axis=1)
    present_first = np.argsort(~present, axis=1, kind="stable")
    ids, present = (np.take_along_axis(array, present_first, axis=1) for array in (ids, present))
    drawn = np.where(present, confidences(rng, *shape), 0.0)
    return Tags(ids, np.round(-np.sort(-drawn, axis=1), 6))


def _topic_confidences(rng: np.random.Generator, documents: int, width: int) -> Array:
    """As in the real data: 0.008 to 0.33, 0.10 on average."""
    return np.asarray(0.008 + 0.322 * rng.beta(1.2, 3.0, (documents, width)))


def _category_confidences(rng: np.random.Generator, documents: int, width: int) -> Array:
    """As in the real data, a pair of about 0.92 and 0.07."""
    return np.asarray(np.array([0.92, 0.07])[:width] + rng.uniform(-0.01, 0.01, (documents, width)))


def _entity_confidences(rng: np.random.Generator, documents: int, width: int) -> Array:
    return rng.uniform(0.02, 1.0, (documents, width))


def _publish_times(rng: np.random.Generator, documents: int) -> Array:
    """Draws publication times: mostly weeks before the clicks, some years before, some after; a third is unknown."""
    age_days = np.minimum(rng.lognormal(3.0, 1.8, documents), LONGEST_AGE_DAYS) - 5.0
    seconds = np.round((EPOCH_MS - age_days * DAY_MS) / 1000)
    return np.where(rng.random(documents) < 0.33, np.nan, seconds * 1000)


def _places(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Place names such as ``US>CA>807``, the country's number of each, and popularities: 84 % US, 79 % three-part."""
    letters = [chr(ord("A") + number) for number in range(26)]
    states = [f"{a}{b}" for a in letters[::3] for b in letters[::4]][:50]
    state_of_area = zip(range(500, 710), rng.integers(0, len(states), 210), strict=True)
    groups: list[tuple[list[str], float]] = [
        ([f"US>{states[state]}>{area}" for area, state in state_of_area], 0.79),
        ([f"US>{state}" for state in states], 0.04),
        (["US"], 0.01),
        ([f"{country}>{state}" for country in _FREQUENT_COUNTRIES[1:] for state in states[:12]], 0.10),
        ([*_FREQUENT_COUNTRIES[1:], *(f"{a}{b}" for a in "XYZ" for b in letters)], 0.055),
        ([""], 0.005),
    ]  # fmt: skip
    names = np.array([name for group, _ in groups for name in group])
    shares = np.concatenate([share * rng.permutation(zipf(len(group), 0.8, 1)) for group, share in groups])
    country = np.unique([name[:2] for name in names], return_inverse=True)[1]
    return names, country, shares / shares.sum()
