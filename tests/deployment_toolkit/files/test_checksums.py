"""The list of a folder's checksums: what it holds, and what is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deployment_toolkit.errors import ModelError
from deployment_toolkit.files.checksums import CHECKSUMS, checksums_of, checksums_text, require_unchanged


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two files and their list."""
    place = tmp_path / "1"
    (place / "it's a model").mkdir(parents=True)
    (place / "it's a model" / "graph").write_bytes(b"graph")
    (place / "weights").write_bytes(bytes(1000))
    files = {name: place / name for name in ("it's a model", "weights")}
    (place / CHECKSUMS).write_text(checksums_text(checksums_of(files)))
    return place


def test_list_is_that_of_sha256sum(folder: Path) -> None:
    names = ["it's a model/graph", "weights"]
    made = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert (folder / CHECKSUMS).read_text() == made
    assert require_unchanged(folder)
    (folder / "other").touch()
    assert require_unchanged(folder)  # what the list doesn't name is not compared
    (folder / CHECKSUMS).unlink()
    assert not require_unchanged(folder)


@pytest.mark.parametrize("damage", [b"", bytes(999), b"1" + bytes(999), bytes(1001), None])
def test_file_that_was_changed_cut_or_removed_is_named(folder: Path, damage: bytes | None) -> None:
    (folder / "weights").unlink() if damage is None else (folder / "weights").write_bytes(damage)
    told = "is missing" if damage is None else "is not the file that was deployed: its SHA-256 is"
    with pytest.raises(ModelError, match=f"/1/weights {told}.*: deploy the model again"):
        require_unchanged(folder)


@pytest.mark.parametrize("text", ["", "weights\n", "0" * 64, f"{'0' * 63}  weights\n", f"{'g' * 64}  weights\n"])
def test_list_that_is_none_is_named(folder: Path, text: str) -> None:
    (folder / CHECKSUMS).write_text(text)
    with pytest.raises(ModelError, match=rf"/1/{CHECKSUMS}:1: this is no checksum: deploy the model again"):
        require_unchanged(folder)
    (folder / CHECKSUMS).write_bytes(b"\xff")
    with pytest.raises(ModelError, match=rf"/1/{CHECKSUMS}:1: this is no UTF-8"):
        require_unchanged(folder)


@pytest.mark.parametrize("name", [b"a\nb", b"a\x0cb", b"\xff"])
def test_name_that_no_line_can_hold_is_refused(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "model").mkdir()
    Path(os.fsdecode(bytes(tmp_path / "model") + b"/" + name)).touch()
    with pytest.raises(ModelError, match="which no list can hold: rename it"):
        checksums_of({"model": tmp_path / "model"})
