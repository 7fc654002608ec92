"""Patterns of data files (``valid/*.parquet``): the files that one matches, and patterns below a given folder.

A matched folder stands for the files in it, as Spark, Dask and Hive write a table: ``part.parquet/part-00000.parquet``,
also in folders ``<column>=<value>``. Markers and checksums that such programs add (``_SUCCESS``, ``.part-0.crc``) are
no data. Everything else that is matched must be readable, so that no rows are left out without a word.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from deployment_toolkit.errors import DataError

_MARKER = re.compile(r"_SUCCESS|_metadata|_common_metadata|_(started|committed)_.*|.*\.crc")
# Folders that tell of a table in which not all files hold valid rows.
_TABLES = {"_delta_log": "a Delta table", ".hoodie": "a Hudi table", "_temporary": "written only in part"}
_PLAIN_PATH = re.compile(r"[\w/.,+= -]*")
_LITERAL = re.compile(r"\[([*?\[])\]")  # as glob.escape makes it


def below(folder: Path, pattern: str) -> str:
    """Pattern of files below a folder, whose own name may have the letters of patterns."""
    return str(Path(glob.escape(str(folder))) / pattern)


def folder_of(pattern: str) -> Path:
    """Folder that the files of a pattern are in, or the last one above them whose name is no pattern."""
    folder = Path()
    for part in Path(pattern).parts[:-1]:
        plain = _plain(part)
        if plain is None and not (folder / part).is_dir():
            break
        folder /= plain or part
    return folder


def find_files(patterns: Sequence[str]) -> list[Path]:
    """Files that the patterns match, in the order of the patterns and then in natural order (``part_2`` before
    ``part_10``), each once. A pattern that matches nothing is tried again with brackets as plain letters.

    Raises DataError if a pattern matches no file, or something that is neither a file nor a folder of files.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        names = glob.glob(pattern, recursive=True) or glob.glob(pattern.replace("[", "[[]"), recursive=True)  # noqa: PTH207
        matching = [file for name in names for file in _files_of(Path(name), pattern)]
        for folder in dict.fromkeys(file.parent for file in matching):
            _require_plain(folder)
        if not matching:
            raise DataError(
                f"data pattern {pattern!r} matches no file: check the path, and quote the pattern for the shell"
            )
        found |= dict.fromkeys(sorted(matching, key=_natural_key))
    return list(found)


@contextlib.contextmanager
def plain_name(folder: Path) -> Iterator[Path]:
    """Path of a folder for a library that takes some letters for a pattern or an address. If its path has such, this is
    another path of it in this process, which is gone after the block."""
    if _PLAIN_PATH.fullmatch(str(folder)):
        yield folder
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path("/proc/self/fd", str(descriptor))
    finally:
        os.close(descriptor)


def _plain(part: str) -> str | None:
    """The name that a part of a pattern stands for; None if it stands for several."""
    return None if glob.has_magic(_LITERAL.sub("", part)) else _LITERAL.sub(r"\1", part)


def _files_of(path: Path, pattern: str) -> Iterator[Path]:
    if path.is_dir():
        files = list(_files_in(path, pattern))
        if not files and "**" not in pattern:
            raise DataError(f"data pattern {pattern!r} matches the folder {path}, which holds no data file: remove it")
        yield from files
    elif path.is_file():
        if path.name == Path(pattern).name or not _MARKER.fullmatch(path.name):
            yield path
    else:
        what = "a link to nothing" if path.is_symlink() else "neither a file nor a folder"
        raise DataError(f"data pattern {pattern!r} matches {path}, which is {what}: remove it or fix the pattern")


def _files_in(folder: Path, pattern: str) -> Iterator[Path]:
    """Data files in a folder that a program wrote as one table."""
    _require_plain(folder)
    for item in sorted(folder.iterdir()):
        if item.name.startswith(".") or _MARKER.fullmatch(item.name):
            continue
        if not item.is_dir():
            yield from _files_of(item, pattern)
        elif "=" in item.name:
            yield from _files_in(item, pattern)
        elif "**" not in pattern:
            raise DataError(
                f"data pattern {pattern!r} matches the folder {folder}, in which {item.name} is a folder too: name the "
                f"files, as {below(item, '*.parquet')!r}"
            )


def _require_plain(folder: Path) -> None:
    """Raises DataError if a folder, or one above it for values of its columns, is a table with a log of its own."""
    told = next((name for name in _TABLES if (folder / name).exists()), None)
    if told is not None:
        raise DataError(
            f"{folder} is {_TABLES[told]} ({told} is in it), which can't be read file by file: write its rows to plain "
            "parquet files"
        )
    if "=" in folder.name:
        _require_plain(folder.parent)


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """Sort key in which digits compare as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", str(path))]
