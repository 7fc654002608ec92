"""In how many rows at once a model is tried.

Engines choose their code by the number of rows, at powers of two and at the widths of their registers and tiles (8, 16,
32, 48, 64), and hosts fill batches up to such numbers: so each is asked, with its neighbours, beside a few, round
numbers and the largest. What is wrong in one of them is seen in no other.
"""

from __future__ import annotations

# Each is asked in each instance before the model is ready, so there are 2,130 rows in all.
_AT_LOAD = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 512)
# With it there are some 10,000 rows, the largest size's once more in the second largest: half a second on two cores.
_LARGEST_AT_LOAD = 4096

# 8,804 rows of a data set in all.
_REQUESTS = (
    *(1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100, 127, 128, 129),
    *(255, 256, 257, 500, 511, 512, 513, 1000, 1024, 1025, 2048),
)


def load_sizes(max_batch_size: int) -> tuple[int, ...]:
    """What a host asks a model before it is ready, ascending: up to 512 rows, and the most that the model takes where
    that is not more than 4096; 0 for a model that takes any number."""
    sizes = {size for size in _AT_LOAD if size <= max_batch_size or max_batch_size == 0}
    return tuple(sorted(sizes | ({max_batch_size} if 0 < max_batch_size <= _LARGEST_AT_LOAD else set())))


def request_sizes(max_batch_size: int) -> tuple[int, ...]:
    """What the proof of correctness asks a server, ascending: up to 2048 rows, powers of two from there on, and the
    most that the model takes. All together are less than 9,000 rows and four times the largest."""
    sizes = {size for size in _REQUESTS if size <= max_batch_size} | {max_batch_size}
    doubled = 2 * _REQUESTS[-1]
    while doubled < max_batch_size:
        sizes.add(doubled)
        doubled *= 2
    return tuple(sorted(sizes))
