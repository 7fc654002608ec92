from __future__ import annotations

import pytest

from deployment_toolkit.errors import UsageError
from deployment_toolkit.library.shape_profile import ShapeProfile


def test_shape_profile_has_min_opt_and_max() -> None:
    profile = ShapeProfile((1, 3), (64, 3), (64, 3))
    assert (profile.min, profile.opt, profile.max) == ((1, 3), (64, 3), (64, 3))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((1, 3), (64,), (64, 3)), "as many dimensions"),
        (((), (), ()), "as many dimensions"),
        (((0, 3), (1, 3), (1, 3)), "1 <= min <= opt <= max"),
        (((2, 3), (1, 3), (4, 3)), "1 <= min <= opt <= max"),
        (((1, 3), (8, 3), (4, 3)), r"min \[1, 3\], opt \[8, 3\], max \[4, 3\]"),
    ],
)
def test_shape_profile_with_unordered_shapes_is_refused(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ShapeProfile(*shapes)
