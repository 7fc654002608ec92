"""Damaged copies of a file, the same in every run: bits flipped, bytes added, taken away and repeated."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence


def damaged(content: bytes, count: int, words: Sequence[bytes] = ()) -> Iterator[bytes]:
    """Yields ``count`` damaged copies; ``words`` are what the format gives a meaning to, which some copies get."""
    chance = random.Random(len(content))
    for _ in range(count):
        copy = bytearray(content)
        for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
            _damage(copy, chance, words)
        yield bytes(copy)


def _damage(copy: bytearray, chance: random.Random, words: Sequence[bytes]) -> None:
    place, other = chance.randrange(len(copy) + 1), chance.randrange(len(copy) + 1)
    length = chance.choice((1, 4, 40, 400))
    match chance.choice(("bit", "word", "added", "removed", "cut", "repeated")):
        case "bit" if place < len(copy):
            copy[place] ^= 1 << chance.randrange(8)
        case "word" if words:
            copy[place:place] = chance.choice(words)
        case "added":
            copy[place:place] = chance.randbytes(length)
        case "removed":
            del copy[place : place + length]
        case "cut":
            del copy[max(place, 1) :]
        case _:
            copy[place:place] = copy[other : other + length]
