from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.core import Batching
from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.mapping import from_mapping


@dataclass(frozen=True)
class Limits:
    atol: float
    rows: int = 10

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise UsageError(f"rows must be at least 1, not {self.rows}")


@dataclass(frozen=True)
class Config:
    name: str
    folder: Path
    limits: list[Limits]
    batching: Batching = Batching.STATIC
    port: int | None = None
    units: list[int] | None = None
    fast: bool = False
    one: Limits = field(default_factory=lambda: Limits(1.0))


GOOD = "{name: a, folder: data/x, limits: [{atol: 1e-4}, {atol: 2, rows: 3}]"


def read(text: str) -> Config:
    return from_mapping(Config, yaml.safe_load(text), "config.yaml")


def test_a_mapping_becomes_its_dataclass() -> None:
    config = read(GOOD + ", batching: dynamic, port: null, units: [8, 9], fast: true, one: {atol: 3}}")
    limits = [Limits(1e-4), Limits(2.0, 3)]
    assert config == Config("a", Path("data/x"), limits, Batching.DYNAMIC, None, [8, 9], True, Limits(3.0))
    assert read(GOOD + "}").batching is Batching.STATIC


def test_flags_may_be_0_and_1_as_the_original_has_them() -> None:
    assert [read(GOOD + f", fast: {flag}}}").fast for flag in (0, 1)] == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + ", bathcing: static}", "config.yaml: unknown key bathcing, did you mean batching?"),
        (GOOD + ", xyzzy: 1}", "config.yaml: unknown key xyzzy; known are batching, fast, folder, limits,"),
        ("{name: a, limits: []}", "config.yaml: key folder is missing, add it"),
        (GOOD + ", one: {rows: 3}}", "config.yaml: one: key atol is missing"),
        (GOOD + ", one: {atol: 1, rows: 0}}", "config.yaml: one: rows must be at least 1, not 0"),
        ("{name: a, folder: b, limits: [{atol: 1}, {atol: x}]}", "limits[2]: atol: expected float, found 'x'"),
        ("{name: a, folder: b, limits: [3]}", "config.yaml: limits[1]: expected keys and values, found int"),
        (GOOD + ", batching: fast}", "config.yaml: batching: 'fast' is none of disabled, static, dynamic"),
        (GOOD + ", port: x}", "config.yaml: port: expected int, found 'x'"),
        (GOOD + ", port: true}", "config.yaml: port: expected int, found True"),
        (GOOD + ", units: 8}", "config.yaml: units: expected a list, found 8"),
        (GOOD + ", fast: 2}", "config.yaml: fast: expected bool, found 2"),
        ("[a, b]", "config.yaml: expected keys and values, found list"),
        ("", "config.yaml: expected keys and values, found NoneType"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(text: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(text)
    assert message in str(raised.value)
    assert str(raised.value).count("config.yaml") == 1
