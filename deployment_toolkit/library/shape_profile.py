"""Shape profiles: the input shapes that an engine is built for."""

from __future__ import annotations

from dataclasses import dataclass

from deployment_toolkit.errors import UsageError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ShapeProfile:
    """Smallest, optimal and largest shape of one input, the batch dimension first.

    An engine takes every shape between ``min`` and ``max`` and is tuned for ``opt``. Raises UsageError unless all three
    have the same number of dimensions, no size is below 1, and ``min <= opt <= max`` in each dimension.
    """

    min: Shape
    opt: Shape
    max: Shape

    def __post_init__(self) -> None:
        told = f"min {list(self.min)}, opt {list(self.opt)}, max {list(self.max)}"
        if not len(self.min) == len(self.opt) == len(self.max) or not self.min:
            raise UsageError(f"shape profile {told}: give as many dimensions to each, the batch dimension first")
        for low, middle, high in zip(self.min, self.opt, self.max, strict=True):
            if not 1 <= low <= middle <= high:
                raise UsageError(f"shape profile {told}: each dimension needs 1 <= min <= opt <= max")
