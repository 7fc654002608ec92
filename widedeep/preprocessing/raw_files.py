"""Where the tables are in the folder of raw files: as they are, in a zip or another compressed file, in a folder, in
many files, or where a pattern says."""

from __future__ import annotations

import bz2
import contextlib
import functools
import glob
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.patterns import find_files

_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)
_ZIP = b"PK\x03\x04"
_STREAMS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_PARQUET = b"PAR1"
_FOREIGN = {
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd, unpack it with `zstd -d`",
    b"7z\xbc\xaf\x27\x1c": "it is a 7z archive, unpack it with `7z x`",
    b"Rar!": "it is a rar archive, unpack it with `unrar x`",
    _PARQUET: "it is a parquet file, unpack it",
}
_TAR = "it is a tar archive, unpack it with `tar xf`"
_PACKED = r"(\.csv)?(\.(zip|gz|bz2|xz|zst|7z|rar|tar|tgz|parquet))+"
_ONE_OF_MANY = re.compile(r"part[-._].*|.*\.(csv|parquet|pq)(\.[a-z0-9]+)*")  # names of a table's many files
_ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")
_OTHER_TABLES = ("pageviews", "pageviewssample", "clickstest", "samplesubmission")  # Kaggle's, not read here


@dataclass(frozen=True)
class RawFolder:
    """The folder of the raw tables, and the patterns of the files of those that are elsewhere, by Kaggle's name."""

    path: Path
    patterns: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.path)


RawDir = Path | RawFolder


def raw_folder(raw_dir: RawDir) -> RawFolder:
    """The folder with its patterns; a path has none."""
    return raw_dir if isinstance(raw_dir, RawFolder) else RawFolder(raw_dir)


@dataclass(frozen=True)
class OpenTable:
    """The text of a table, as a stream of bytes, and how many of the ``size`` bytes on disk are read."""

    text: IO[bytes]
    size: int
    position: Callable[[], int]


@dataclass(frozen=True)
class RawTable:
    """A table: its name, as Kaggle has it, and the file that holds it, or some of its rows."""

    name: str
    path: Path

    @functools.cached_property
    def is_parquet(self) -> bool:
        """True for a parquet file that is not packed. Raises DataError if the file can't be read."""
        return self._starts().startswith(_PARQUET)

    @functools.cached_property
    def is_plain(self) -> bool:
        """True for text that is not packed, of which any part can be read alone."""
        return not self._starts().startswith((_PARQUET, _ZIP, *_STREAMS, *_FOREIGN))

    def _starts(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                return file.read(8)
        except OSError as error:
            raise DataError(f"{self.path} can't be read: {error}; fetch or unpack it again") from error

    @contextlib.contextmanager
    def open(self) -> Iterator[OpenTable]:
        """Opens the table, unpacked on the way. Raises DataError if the file can't be read or holds something else."""
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(self.path.open("rb"))
                yield OpenTable(self._unpacked(file, stack), self.path.stat().st_size, file.tell)
            except _BROKEN as error:
                reason = str(error) or "it is cut short"
                raise DataError(f"{self.path} can't be read: {reason}; fetch or unpack it again") from error

    def _unpacked(self, file: IO[bytes], stack: contextlib.ExitStack) -> IO[bytes]:
        head = _head(file)
        if head.startswith(_ZIP):
            text = stack.enter_context(self._only_member(stack.enter_context(zipfile.ZipFile(file))))
        else:
            opener = next((opener for magic, opener in _STREAMS.items() if head.startswith(magic)), None)
            text = file if opener is None else stack.enter_context(opener(file, "rb"))
        inner = head if text is file else _head(text)
        problems = [problem for magic, problem in _FOREIGN.items() if inner.startswith(magic)]
        if inner[257:262] == b"ustar":
            problems.append(_TAR)
        if text is not file and inner.startswith((_ZIP, *_STREAMS)):
            problems.append("it is packed twice, unpack it")
        if problems:
            raise DataError(f"{self.path} is no CSV file: {problems[0]} so that {self.name} is there")
        return text

    def _only_member(self, archive: zipfile.ZipFile) -> IO[bytes]:
        members = [entry for entry in archive.infolist() if not entry.is_dir() and not _is_extra(Path(entry.filename))]
        if len(members) != 1 or _stem(Path(members[0].filename)) != _stem(Path(self.name)):
            held = ", ".join(entry.filename for entry in members[:5]) or "nothing"
            raise DataError(f"{self.path} holds {held}, not {self.name} alone: unpack it so that {self.name} is there")
        try:
            return archive.open(members[0])
        except (RuntimeError, NotImplementedError) as error:  # encrypted, or compressed in a way that Python lacks
            raise DataError(f"{self.path} can't be unpacked here: {error}; unpack it by hand") from error


def find_tables(raw_dir: RawDir, name: str) -> tuple[RawTable, ...]:
    """Files of the table with this name of Kaggle's, in the order of its rows; none if it is not there. What is
    unpacked goes before what is packed.

    Raises DataError if it is there in a form that can't be read, or more than once.
    """
    place = raw_folder(raw_dir)
    if name in place.patterns:
        return _of_one_kind(name, find_files([place.patterns[name]]), repr(place.patterns[name]))
    if (place.path / name).is_file():
        return (RawTable(name, place.path / name),)
    found = [entry for entry in sorted(place.path.iterdir()) if _stem(entry) == _stem(Path(name))]
    files = [entry for entry in found if entry.is_file()]
    plain = [entry for entry in files if entry.name.casefold() == name]
    folders = [entry for entry in found if entry.is_dir()]
    packed = [entry for entry in files if re.fullmatch(Path(name).stem + _PACKED, entry.name.casefold())]
    for candidates in (plain, folders, packed):
        if len(candidates) > 1:
            names = ", ".join(path.name for path in candidates)
            raise DataError(f"{raw_dir} holds {names}: keep one, as {name}")
        if candidates:
            return _in_folder(candidates[0], name) if candidates[0].is_dir() else (RawTable(name, candidates[0]),)
    if found:
        problem = f"is there, {name} is not" if found[0] in files else "is no file, or a link to nothing"
        raise DataError(f"{found[0]} {problem}: write the table as {place.path / name}, or move this away")
    return ()


def require_nowhere(raw_dir: RawDir, names: Iterable[str]) -> None:
    """Raises DataError if one of these tables, missing in the folder, is in an archive there or in a folder below."""
    stems = {_stem(Path(name)): name for name in names}
    for entry in sorted(raw_folder(raw_dir).path.iterdir()) if stems else ():
        if entry.is_dir() and not _is_extra(entry):
            inside = {_stem(path): path for path in sorted(entry.iterdir())}
        elif entry.name.casefold().endswith(".zip") and zipfile.is_zipfile(entry):
            with zipfile.ZipFile(entry) as archive:
                inside = {_stem(Path(member)): entry / member for member in archive.namelist()}
        elif entry.name.casefold().endswith(_ARCHIVE_SUFFIXES) and _stem(entry) not in _OTHER_TABLES:
            lacking = ", ".join(stems.values())
            raise DataError(f"{raw_dir} lacks {lacking}, maybe in {entry.name}: unpack it there, or move it away")
        else:
            continue
        for stem in stems.keys() & inside.keys():
            raise DataError(f"{stems[stem]} is not in {raw_dir}, but {inside[stem]} is: move or unpack it to {raw_dir}")


def _in_folder(folder: Path, name: str) -> tuple[RawTable, ...]:
    """The file of this name in a folder, or all of its files, as Spark, Dask and Hive write a table."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not _is_extra(path)]
    matching = [path for path in files if _stem(path) == _stem(Path(name))]
    if len(matching) == 1:
        return (RawTable(name, matching[0]),)
    others = [path for path in files if not _ONE_OF_MANY.fullmatch(path.name.casefold())]
    if matching or others or not (files or any("=" in path.name for path in folder.iterdir())):
        held = ", ".join(path.name for path in (others or files)[:5]) or "no file"
        raise DataError(f"{folder} is a folder that holds {held}: put the rows of {name} into files of CSV or parquet")
    return _of_one_kind(name, find_files([glob.escape(str(folder))]), str(folder))


def _of_one_kind(name: str, files: Iterable[Path], where: str) -> tuple[RawTable, ...]:
    """The files as tables. Raises DataError if some are CSV and some parquet: these may hold the same rows twice."""
    tables = tuple(RawTable(name, path) for path in files)
    other = next((table for table in tables if table.is_parquet != tables[0].is_parquet), None)
    if other is not None:
        parquet, csv = (tables[0], other) if tables[0].is_parquet else (other, tables[0])
        raise DataError(
            f"{where} holds parquet, such as {parquet.path.name}, and CSV, such as {csv.path.name}: keep the files of "
            "one kind, as both may hold the same rows"
        )
    return tables


def _stem(path: Path) -> str:
    """Letters of the name in front of the first dot."""
    return re.sub("[^a-z]", "", path.name.casefold().split(".")[0])


def _is_extra(path: Path) -> bool:
    """True for what systems add to folders and archives: hidden files, ``_SUCCESS``, ``__MACOSX``."""
    return path.name.startswith((".", "_")) or "__MACOSX" in path.parts


def _head(stream: IO[bytes]) -> bytes:
    head = stream.read(512)
    stream.seek(0, io.SEEK_SET)
    return head
