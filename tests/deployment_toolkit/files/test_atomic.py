from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import (
    remove,
    replace_when_complete,
    require_free_space,
    require_writable,
    size_bytes,
    size_words,
    write_text,
)
from deployment_toolkit.files.scratch import final_name


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("before", ["nothing", "file", "folder"])
def test_folder_replaces_a_file_or_folder(tmp_path: Path, before: str) -> None:
    path = tmp_path / "below" / "model"
    if before != "nothing":
        path.parent.mkdir()
    if before == "file":
        path.write_text("old")
    elif before == "folder":
        path.mkdir()
        (path / "old").touch()
    with replace_when_complete(path) as beside:
        beside.mkdir()
        (beside / "new").touch()
    assert (names(path), names(path.parent)) == (["new"], ["model"])


@pytest.mark.parametrize("there", [True, False])
def test_link_is_followed_and_stays(tmp_path: Path, there: bool) -> None:
    disk, link = tmp_path / "disk", tmp_path / "datasets" / "outbrain"
    for folder in (disk, link.parent):
        folder.mkdir()
    if there:
        (disk / "data").mkdir()
        (disk / "data" / "old").touch()
    link.symlink_to(disk / "data")
    with replace_when_complete(link) as beside:
        assert beside.is_relative_to(disk)
        beside.mkdir()
        (beside / "new").touch()
    assert link.is_symlink()
    assert (names(disk), names(disk / "data"), names(link.parent)) == (["data"], ["new"], ["outbrain"])


def test_link_to_nowhere_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "not mounted" / "data")
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    with pytest.raises(DataError, match=r"link to .*data; make or mount the folder .*not mounted$"):
        write_text(tmp_path / "link", "text")
    with pytest.raises(DataError, match=r"ring can't be written: .*leads back to itself; remove"):
        write_text(tmp_path / "ring", "text")
    assert names(tmp_path) == ["link", "ring"]


def test_files_named_after_the_new_one_come_with_it(tmp_path: Path) -> None:
    with replace_when_complete(tmp_path / "model.onnx") as beside:
        for path in (beside, beside.with_name(f"{beside.name}.data")):
            path.write_text(final_name(path))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("model.onnx", "model.onnx.data"), "model.onnx"
    )


def test_current_folder_is_filled_if_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with replace_when_complete(Path()) as beside:
        beside.mkdir()
        (beside / "new").touch()
    assert [path.name for path in Path().iterdir()] == ["new"]
    with pytest.raises(DataError, match=r"the current folder .* and holds new; empty it or name a folder in it"):
        require_writable(Path())
    with pytest.raises(DataError, match=r"the root of all folders; choose another place"):
        require_writable(Path("/"))


def test_names_of_any_length_are_written_or_refused(tmp_path: Path) -> None:
    name = "é" * 127
    write_text(tmp_path / name, "text")
    assert names(tmp_path) == [name]
    with pytest.raises(DataError, match=r"can't be written: File name too long; choose a shorter name"):
        write_text(tmp_path / ("n" * 256), "text")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("Resource: No space left on device (os)")])
def test_full_disk_is_named_whoever_tells_it(error: Exception, tmp_path: Path) -> None:
    path = tmp_path / "model"
    with (
        pytest.raises(DataError, match=f"^{path} can't be written: No space left on device; make room or choose"),
        replace_when_complete(path) as beside,
    ):
        beside.mkdir()
        raise error
    assert names(tmp_path) == []


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
    with pytest.raises(
        DataError, match=r"a model needs 1024\.0 TiB on the disk of .*: make room for 10\d\d\.\d TiB more"
    ):
        require_free_space(tmp_path / "not" / "yet", 2**50, "a model")
    assert [size_words(count) for count in (17, 2048, 3 * 2**20, 2**30)] == [
        "17 bytes",
        "2.0 KiB",
        "3.0 MiB",
        "1.0 GiB",
    ]
