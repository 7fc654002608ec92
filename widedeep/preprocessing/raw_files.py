"""Where the tables are in the folder of raw files: as they are, in a zip or another compressed file, in a folder."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from deployment_toolkit.errors import DataError

_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)
_ZIP = b"PK\x03\x04"
_STREAMS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_FOREIGN = {
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd, unpack it with `zstd -d`",
    b"7z\xbc\xaf\x27\x1c": "it is a 7z archive, unpack it with `7z x`",
    b"Rar!": "it is a rar archive, unpack it with `unrar x`",
    b"PAR1": "it is a parquet file, write it as CSV",
}
_TAR = "it is a tar archive, unpack it with `tar xf`"
_PACKED = r"(\.csv)?(\.(zip|gz|bz2|xz|zst|7z|rar|tar|tgz|parquet))+"
_ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")
_OTHER_TABLES = ("pageviews", "pageviewssample", "clickstest", "samplesubmission")  # Kaggle's, not read here


@dataclass(frozen=True)
class OpenTable:
    """The text of a table, as a stream of bytes, and how many of the ``size`` bytes on disk are read."""

    text: IO[bytes]
    size: int
    position: Callable[[], int]


@dataclass(frozen=True)
class RawTable:
    """A table: its name, as Kaggle has it, and the file that holds it."""

    name: str
    path: Path

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


def find_table(raw_dir: Path, name: str) -> RawTable | None:
    """Table with this name of Kaggle's, None if it is not there. What is unpacked goes before what is packed.

    Raises DataError if it is there in a form that can't be read, or more than once.
    """
    if (raw_dir / name).is_file():
        return RawTable(name, raw_dir / name)
    found = [entry for entry in sorted(raw_dir.iterdir()) if _stem(entry) == _stem(Path(name))]
    files = [entry for entry in found if entry.is_file()]
    plain = [entry for entry in files if entry.name.casefold() == name]
    folders = [entry for entry in found if entry.is_dir()]
    packed = [entry for entry in files if re.fullmatch(Path(name).stem + _PACKED, entry.name.casefold())]
    for candidates in (plain, folders, packed):
        if len(candidates) > 1:
            names = ", ".join(path.name for path in candidates)
            raise DataError(f"{raw_dir} holds {names}: keep one, as {name}")
        if candidates:
            return RawTable(name, _in_folder(candidates[0], name) if candidates[0].is_dir() else candidates[0])
    if found:
        problem = f"is there, {name} is not" if found[0] in files else "is no file, or a link to nothing"
        raise DataError(f"{found[0]} {problem}: write the table as {raw_dir / name}, or move this away")
    return None


def require_nowhere(raw_dir: Path, names: Iterable[str]) -> None:
    """Raises DataError if one of these tables, missing in the folder, is in an archive there or in a folder below."""
    stems = {_stem(Path(name)): name for name in names}
    for entry in sorted(raw_dir.iterdir()) if stems else ():
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


def _in_folder(folder: Path, name: str) -> Path:
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not _is_extra(path)]
    matching = [path for path in files if _stem(path) == _stem(Path(name))]
    if not matching and len(files) == 1 and files[0].name.startswith("part-"):
        matching = files
    if len(matching) != 1:
        held = ", ".join(path.name for path in files[:5]) or "no file"
        raise DataError(f"{folder} is a folder that holds {held}: put the rows of {name} into one file of this name")
    return matching[0]


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
