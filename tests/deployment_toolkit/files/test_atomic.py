from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import remove, replace_when_complete, require_free_space, size_bytes, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("before", ["nothing", "file", "folder", "link"])
def test_folder_replaces_a_file_folder_or_link(tmp_path: Path, before: str) -> None:
    path = tmp_path / "below" / "model"
    (tmp_path / "elsewhere").mkdir()
    if before != "nothing":
        path.parent.mkdir()
    if before == "file":
        path.write_text("old")
    elif before == "folder":
        path.mkdir()
        (path / "old").touch()
    elif before == "link":
        path.symlink_to(tmp_path / "elsewhere")
    with replace_when_complete(path) as beside:
        beside.mkdir()
        (beside / "new").touch()
    assert (names(path), names(path.parent)) == (["new"], ["model"])
    assert names(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("there", [True, False])
def test_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "model"
    if there:
        path.write_text("old")
    with pytest.raises(ZeroDivisionError), replace_when_complete(path) as beside:
        beside.write_text("half")
        raise ZeroDivisionError
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"] * there


def test_threads_that_write_the_same_file_do_not_mix_content(tmp_path: Path) -> None:
    path, both = tmp_path / "library.so", threading.Barrier(2, timeout=10)

    def write(text: str) -> None:
        with replace_when_complete(path) as beside:
            beside.write_text(text)
            both.wait()
            assert beside.read_text() == text

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, ["one", "other"]))
    assert path.read_text() in ("one", "other") and names(tmp_path) == ["library.so"]


def test_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file/below/model can't be written: .*; choose another place"):
        write_text(tmp_path / "file" / "below" / "model", "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder can't be written: Is a directory"):
        write_text(tmp_path / "folder", "text")
    assert names(tmp_path) == ["file", "folder"]


def test_error_about_another_file_is_raised_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replace_when_complete(tmp_path / "a" / "model"):
        (tmp_path / "source").read_text()


def test_remove_keeps_the_target_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("12345")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    remove(tmp_path / "never there")
    assert names(tmp_path) == ["folder"]
    assert (size_bytes(tmp_path), size_bytes(tmp_path / "folder" / "file")) == (5, 5)
    remove(tmp_path / "folder")
    assert names(tmp_path) == []


def test_full_disk_is_reported_before_writing(tmp_path: Path) -> None:
    require_free_space(tmp_path / "not" / "yet", 1, "a model")
    with pytest.raises(DataError, match=r"a model needs 1048576\.0 GiB on the disk of .*: make room"):
        require_free_space(tmp_path / "not" / "yet", 2**50, "a model")
