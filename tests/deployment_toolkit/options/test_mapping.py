from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deployment_toolkit.core import Batching
from deployment_toolkit.errors import DataError, DeploymentError, UsageError
from deployment_toolkit.options.located_yaml import load_yaml
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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(text)
        return from_mapping(Config, load_yaml(path))


def test_mapping_becomes_its_dataclass() -> None:
    config = read(GOOD + ", batching: dynamic, port: null, units: [8, 9], fast: true, one: {atol: 3}}")
    limits = [Limits(1e-4), Limits(2.0, 3)]
    assert config == Config("a", Path("data/x"), limits, Batching.DYNAMIC, None, [8, 9], True, Limits(3.0))
    assert read(GOOD + "}").batching is Batching.STATIC


def test_flags_accept_0_and_1_like_the_original() -> None:
    assert [read(GOOD + f", fast: {flag}}}").fast for flag in (0, 1)] == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + ", bathcing: static}", "config.yaml:1: unknown key bathcing, did you mean batching?"),
        (GOOD + ",\n xyzzy: 1}", "config.yaml:2: unknown key xyzzy; known are batching, fast, folder, limits,"),
        ("{name: a, limits: []}", "config.yaml:1: key folder is missing, add it"),
        (GOOD + ",\n\n one: {rows: 3}}", "config.yaml:3: one: key atol is missing"),
        (GOOD + ",\n one: {atol: 1, rows: 0}}", "config.yaml:2: one: rows must be at least 1, not 0"),
        (
            "{name: a, folder: b, limits: [{atol: 1}, \n{atol: x}]}",
            "yaml:2: limits[2]: atol: expected float, found 'x'",
        ),
        ("{name: a, folder: b, limits: [3]}", "config.yaml:1: limits[1]: expected keys and values, found 3"),
        (GOOD + ", batching: fast}", "config.yaml:1: batching: 'fast' is none of disabled, static, dynamic"),
        (GOOD + ", port: x}", "config.yaml:1: port: expected int, found 'x'"),
        (GOOD + ", port: true}", "config.yaml:1: port: expected int, found True"),
        (GOOD + ", port: 99999999999}", "config.yaml:1: port: 99999999999 is out of range: at most 2147483647"),
        (
            GOOD.replace("data/x", "data/" + "x" * 300) + "}",
            "yaml:1: folder: xxxxxxxxxxxxxxxxxxxx… is longer than a file",
        ),
        (GOOD + ", units: 8}", "config.yaml:1: units: expected a list, found 8"),
        (GOOD + ", fast: 2}", "config.yaml:1: fast: expected bool, found 2"),
        (GOOD + ", one: {atol: .inf}}", "config.yaml:1: one: atol: inf is no finite number"),
        (GOOD + f", one: {{atol: {'9' * 400}}}}}", "config.yaml:1: one: atol: expected float, found 9999"),
        (GOOD + ",\n name: b}", "config.yaml:2: key 'name' is there twice, first in line 1: leave one out"),
        ("[a, b]", "config.yaml:1: expected keys and values, found a list"),
        ("", "config.yaml:1: expected keys and values, found nothing"),
        ("a: [", "not YAML"),
    ],
)
def test_mapping_error_names_file_and_line(text: str, message: str) -> None:
    with pytest.raises(DeploymentError) as raised:
        read(text)
    assert message in str(raised.value)
    assert str(raised.value).count("config.yaml:") == 1


def test_mapping_file_is_utf_8_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + (GOOD + "}").encode())
    assert from_mapping(Config, load_yaml(path)).name == "a"
    path.write_bytes((GOOD + "}").replace("name: a", "name: é").encode("latin-1"))
    with pytest.raises(DataError, match="config.yaml:1: this is no UTF-8, its byte 0xe9 is none"):
        load_yaml(path)
