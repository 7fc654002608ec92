from __future__ import annotations

from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.patterns import below, find_files, folder_of, plain_name


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: Path, pattern: str) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_files([str(folder / pattern)])]


def test_matched_folder_stands_for_its_data_files(tmp_path: Path) -> None:
    touch(
        tmp_path, "b.parquet", "a.parquet/part-10", "a.parquet/part-9", "a.parquet/day=2/part-0", "a.parquet/_SUCCESS"
    )
    touch(
        tmp_path, "_SUCCESS", "a.parquet/.part-9.crc", "a.parquet/part-9.crc", "a.parquet/_metadata", ".hidden.parquet"
    )
    everything = ["a.parquet/day=2/part-0", "a.parquet/part-9", "a.parquet/part-10", "b.parquet"]
    for pattern in ("*.parquet", "*", "**"):
        assert found(tmp_path, pattern) == everything, pattern
    assert found(tmp_path, "a.parquet") == everything[:3]
    assert found(tmp_path, "_SUCCESS") == ["_SUCCESS"]  # named by its user


def test_each_file_is_found_once_in_the_order_of_the_patterns(tmp_path: Path) -> None:
    touch(tmp_path, "1", "2", "10")
    patterns = [str(tmp_path / name) for name in ("10", "*", "1")]
    assert [path.name for path in find_files(patterns)] == ["10", "1", "2"]


@pytest.mark.parametrize(
    ("files", "pattern", "message"),
    [
        ([], "*.parquet", r"matches no file: check the path"),
        (["_SUCCESS"], "*", r"matches no file"),
        (["a.parquet/_SUCCESS"], "*.parquet", r"matches the folder .*a\.parquet, which holds no data file"),
        (
            ["valid/part", "train/part"],
            "",
            r"in which train is a folder too: name the files, as '.*/train/\*\.parquet'",
        ),
        (["a.parquet/part", "a.parquet/_temporary/0"], "*.parquet", r"a\.parquet is written only in part"),
        (["a/part.parquet", "a/_delta_log/0.json"], "a/*.parquet", r"/a is a Delta table \(_delta_log is in it\)"),
        (["a/x=1/part.parquet", "a/.hoodie/0"], "a/*/*.parquet", r"/a is a Hudi table"),
    ],
)
def test_pattern_that_would_lose_rows_is_refused(files: list[str], pattern: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        find_files([str(touch(tmp_path, *files) / pattern)])


def test_link_to_nothing_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.parquet")
    (tmp_path / "b.parquet").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"matches .*b\.parquet, which is a link to nothing"):
        find_files([str(tmp_path / "*.parquet")])


@pytest.mark.parametrize("name", ["out [2]", "a*b?", 'it\'s "here"', "Übung ä"])
def test_folder_may_have_the_letters_of_patterns(name: str, tmp_path: Path) -> None:
    folder = touch(tmp_path / name, "valid/a.parquet", "valid/b.parquet")
    pattern = below(folder, "valid/*.parquet")
    assert [path.name for path in find_files([pattern])] == ["a.parquet", "b.parquet"]
    assert folder_of(pattern) == folder / "valid"
    with plain_name(folder) as plain:
        assert sorted(path.name for path in (plain / "valid").iterdir()) == ["a.parquet", "b.parquet"]
        assert not set(str(plain)) & set("[]*?'\"")


def test_brackets_that_match_nothing_are_letters(tmp_path: Path) -> None:
    touch(tmp_path, "out [2]/a.parquet", "b/c.parquet", "d/c.parquet")
    assert found(tmp_path, "out [2]/*.parquet") == ["out [2]/a.parquet"]
    assert folder_of(f"{tmp_path}/out [2]/*.parquet") == tmp_path / "out [2]"
    assert found(tmp_path, "[bd]/*.parquet") == ["b/c.parquet", "d/c.parquet"]
    assert folder_of(f"{tmp_path}/[bd]/*.parquet") == tmp_path
