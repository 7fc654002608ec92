"""What a YAML or JSON file may hold that is none: one line with the place."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError
from deployment_toolkit.options.located_yaml import load_yaml
from tests.limits import few_resources


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: a\nplace: Zürich\n".encode("latin-1"), ":2: this is no UTF-8, its byte 0xfc is none: save the file as"),
        ("name: a\n".encode("utf-16"), ":1: this is no UTF-8, its byte 0xff is none"),
        (b"name: a\nplace: \0b\n", ":2: not YAML: the character U+0000 is in it: remove it"),
        (b'name: a\n\nplace: "a\\0b"\n', ":3: 'a\\x00b' holds a NUL character, which no name or path can"),
        (b'name: "\\ud83d"\n', ":1: '\\ud83d' holds half of a character: write the whole one"),
        (b"name: a\nday: 2024-02-30\n", ":2: '2024-02-30' can't be read as timestamp: put it into quotes"),
        (b"name: a\n\tplace: b\n", ":2: not YAML: found character '\\t' that cannot start any token"),
        (b"a:\n  name: 1\n  name: 2\n", ":3: key 'name' is there twice, first in line 2: leave one out"),
        (b"name: " + b"9" * 5000, ":1: "),
    ],
)
def test_file_that_is_none_is_told_with_its_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        load_yaml(path)
    assert str(raised.value).startswith(f"{path}{message}")
    assert "\n" not in str(raised.value)


def test_scalars_keep_their_text(tmp_path: Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_text("release: 22.10\nname: 'a b'\nsize: 010\n")
    entries = load_yaml(path).entries("options")
    assert entries["release"].value == 22.1
    assert [entry.text_as_written for entry in entries.values()] == ["22.10", "a b", "010"]


def test_characters_that_json_writes_in_halves_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "sizes.json"
    path.write_text('{\n\t"name": "\\ud83d\\ude00"\n}')
    assert load_yaml(path).entries("sizes")["name"].value == "\U0001f600"


def _nested(count: int, write: str) -> str:
    """``count`` values, each of which holds the one before it many times; ``write`` makes it of that one's name."""
    names = [f"v{number}" for number in range(count)]
    return "v: &v0 {a: 1, b: 2}\n" + "".join(
        f"{name}: &{name} {write.format(before)}\n" for before, name in itertools.pairwise(names)
    )


BOMBS = {
    "lists of aliases": (_nested(15, "[*{0}, *{0}, *{0}, *{0}, *{0}, *{0}, *{0}, *{0}]"), "an alias refers to itself"),
    "doubled aliases": (_nested(18, "[*{0}, *{0}]"), "an alias refers to itself, or too often"),
    "mappings of aliases": (_nested(15, "{{a: *{0}, b: *{0}, c: *{0}, d: *{0}}}"), "an alias refers to itself"),
    "merged aliases": (_nested(15, "{{<<: [*{0}, *{0}, *{0}, *{0}], own: 1}}"), "an alias refers to itself"),
    "itself": ("a: &a [*a]\n", "an alias refers to itself"),
    "lists in lists": ("[" * 100_000 + "]" * 100_000, ":1: nested too deeply: a few levels are enough"),
    "mappings in mappings": ("{a: " * 100_000, ":1: nested too deeply"),
    "blocks in blocks": ("\n".join(" " * level + "a:" for level in range(500)), ":60: nested too deeply"),
    "items in items": ("- " * 100_000, ":1: nested too deeply"),
    "many values": ("- x\n" * 50_100, ":50000: more than 50000 values: is it the right file?"),
    "digits in base 60": ("a: 1" + ":59" * 100_000, ":1: '1:59:59"),
    "digits": ("a: " + "1_" * 100_000, "can't be read as int: put it into quotes"),
    "blanks": (" " * 2**22, "is larger than 2 MiB"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_bomb_is_refused_at_once(case: str, tmp_path: Path) -> None:
    text, message = BOMBS[case]
    path = tmp_path / "bomb.yaml"
    path.write_text(text)
    with few_resources(), pytest.raises(DataError) as raised:
        load_yaml(path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_endless_file_is_not_read_to_its_end() -> None:
    with few_resources(), pytest.raises(DataError, match="/dev/zero is larger than 2 MiB"):
        load_yaml(Path("/dev/zero"))
