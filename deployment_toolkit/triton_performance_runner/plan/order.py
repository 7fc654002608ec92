"""Order in which the points of a sweep are measured: what people need first comes first, so that a sweep that ends
early has told most of what there is to know."""

from __future__ import annotations

from collections.abc import Sequence

from deployment_toolkit.triton_performance_runner.options import LoadPoint


def in_order_of_need(batch_sizes: Sequence[int], concurrency: Sequence[int]) -> list[LoadPoint]:
    """Points of every batch size with every concurrency, each once: the smallest batch before the largest, the highest
    concurrency before the lowest, then what lies farthest from all before it. With several of both, the corners of the
    grid come first."""
    batches = spread_out(sorted(set(batch_sizes)))
    loads = spread_out(sorted(set(concurrency), reverse=True))
    ranked = [
        (max(row, column), row + column, row, LoadPoint(batch, load))
        for row, batch in enumerate(batches)
        for column, load in enumerate(loads)
    ]
    return [point for *_, point in sorted(ranked, key=lambda item: item[:3])]


def spread_out(values: Sequence[int]) -> list[int]:
    """The first value, the last one, then always the one with the most places between it and the nearest chosen one, of
    equals the later."""
    if not values:
        return []
    order = [0]
    distance = [*range(len(values))]  # of each place to the nearest chosen one
    while len(order) < len(values):
        place = max(range(len(values)), key=lambda index: (distance[index], index))
        order.append(place)
        distance = [min(known, abs(index - place)) for index, known in enumerate(distance)]
    return [values[index] for index in order]
