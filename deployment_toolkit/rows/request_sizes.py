"""Request sizes, in rows, with which a model is checked.

Engines choose their code by the number of rows, at powers of two and at the widths of their registers and tiles (8, 16,
32, 48, 64), and hosts fill batches up to such numbers. So the sizes are these numbers and their neighbours, a few small
sizes, round numbers and the largest size. An error in one size shows in no other size.
"""

from __future__ import annotations

# Each instance answers all of them before the model is ready, so there are only 2,130 rows in total.
_AT_LOAD = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 512)
# With it there are about 10,000 rows, the rows of the largest size counted again in requests of the second largest:
# half a second on two cores.
_LARGEST_AT_LOAD = 4096

# 8,804 rows of a data set in total.
_REQUESTS = (
    *(1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100, 127, 128, 129),
    *(255, 256, 257, 500, 511, 512, 513, 1000, 1024, 1025, 2048),
)


def load_sizes(max_batch_size: int) -> tuple[int, ...]:
    """Request sizes that a host checks before a model is ready, ascending: up to 512 rows, and ``max_batch_size`` if it
    is at most 4096; ``max_batch_size`` 0 means any number of rows."""
    sizes = {size for size in _AT_LOAD if size <= max_batch_size or max_batch_size == 0}
    return tuple(sorted(sizes | ({max_batch_size} if 0 < max_batch_size <= _LARGEST_AT_LOAD else set())))


def request_sizes(max_batch_size: int) -> tuple[int, ...]:
    """Request sizes for the check of correctness on a server, ascending: up to 2048 rows, powers of two above, and
    ``max_batch_size``. Their total is less than 9,000 rows plus four times the largest size."""
    sizes = {size for size in _REQUESTS if size <= max_batch_size} | {max_batch_size}
    doubled = 2 * _REQUESTS[-1]
    while doubled < max_batch_size:
        sizes.add(doubled)
        doubled *= 2
    return tuple(sorted(sizes))
