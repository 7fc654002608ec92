"""Things that come and go in the invented world: pages are read and ads are shown for some days, then others are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deployment_toolkit.core import Array


@dataclass(frozen=True)
class Slots:
    """Places for items (pages or ads), with a popularity each; they sum to 1. The frequent ones keep their item, a rare
    one is taken by several items in turn. So the items of a short time have the same distribution in a world of any
    size.

    ``slot`` and ``generation`` have a value per item; items 0 .. slots - 1 are the first of their slots.
    """

    popularity: Array
    slot: Array
    generation: Array
    _item: Array  # [generations, slots]
    _phase: Array
    _turns: float

    def items(self, slot: Array, share_of_time: Array) -> Array:
        """Items in these slots at these times (0 to 1), one per row."""
        turn = np.floor(share_of_time * self._turns + self._phase[slot]).astype(np.int64)
        return np.asarray(self._item[turn, slot])


def make_slots(rng: np.random.Generator, shares: Array, frequent: int, generations: float) -> Slots:
    """Makes slots with these popularities, in random order, of which all but the ``frequent`` most popular ones are
    taken by ``generations`` items (at least 1) on average."""
    order = rng.permutation(len(shares))
    rare = np.flatnonzero(order >= frequent)
    later = math.ceil(generations) - 1
    item = np.tile(np.arange(len(shares)), (later + 1, 1))
    item[1:, rare] = len(shares) + np.arange(later * len(rare)).reshape(later, len(rare))
    return Slots(
        popularity=-np.sort(-shares)[order],
        slot=np.concatenate([np.arange(len(shares)), np.tile(rare, later)]),
        generation=np.concatenate([np.zeros(len(shares), dtype=np.int64), 1 + np.repeat(np.arange(later), len(rare))]),
        _item=item,
        _phase=rng.random(len(shares)),
        _turns=generations - 1,
    )
