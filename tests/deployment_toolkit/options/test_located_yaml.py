"""What a YAML or JSON file may hold that is none: one line with the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError
from deployment_toolkit.options.located_yaml import load_yaml


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
