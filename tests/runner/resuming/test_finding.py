from __future__ import annotations

from runner.resuming.finding import changed_keys


def test_changed_keys_are_named_with_their_place() -> None:
    before = {"a": 1, "b": {"c": [1, {"d": 2}], "e": 3}, "f": [1], "gone": None}
    now = {"a": 1, "b": {"c": [1, {"d": 4}], "e": 3}, "f": [1, 2], "new": 5}
    assert changed_keys(before, before) == []
    assert changed_keys(before, now) == ["b.c.2.d", "f", "new"]
