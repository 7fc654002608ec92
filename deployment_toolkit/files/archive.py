"""Unpacking of untrusted zip and tar archives; nothing is written outside the folder.

No number in a header is trusted: a few hundred bytes can claim a member's name of gigabytes, or millions of members.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import require_free_space

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # encrypted; or headers that nest
    MemoryError,  # a dictionary of lzma that is larger than the memory
    ValueError,
    OverflowError,
    struct.error,
    LookupError,
)
_MOST_MEMBERS = 10_000
_MOST_HEADER_BYTES = 2**13  # of a member's long name or further properties, of which tarfile reads the claimed size
_MOST_HEADERS_BYTES = 2**20  # all of these together
_MOST_DIRECTORY_BYTES = 2**21  # of the list at a zip's end, which zipfile reads as a whole
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_REASONS = {EOFError: "it is cut short", MemoryError: "its headers claim more memory than there is"}


class _Refused(Exception):
    """What is wrong with an archive, as the end of a sentence about it."""


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    kind: str  # file, folder, or the name of another kind
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class _Contents:
    members: Iterable[_Member]
    finish: Callable[[], None] = lambda: None  # check after all members have been read


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a zip or a (compressed) tar archive into ``folder``, which is created.

    Only files and folders are unpacked, without permissions, owners and times. Raises DataError, before anything is
    written, if a member is a link, a device or the like, is outside the folder or is there twice, or if the disk is too
    small; also for a file that is no archive or is broken.
    """
    try:
        with ExitStack() as stack:
            contents = _open(archive, stack)
            members = _checked(contents.members, archive, folder)
            folder.mkdir(parents=True, exist_ok=True)
            for member in members:
                _write(member, folder / member.name)
            contents.finish()
    except _Refused as error:
        raise DataError(f"{archive} {error}: unpack it by hand if you trust it") from error
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or _REASONS.get(type(error), type(error).__name__)
        raise DataError(f"{archive} can't be unpacked: {reason}; fetch it again") from error
    except OSError as error:  # names that a file system can't have, or one below a file
        raise DataError(f"{archive} can't be unpacked into {folder}: {error}") from error


def _open(archive: Path, stack: ExitStack) -> _Contents:
    if zipfile.is_zipfile(archive):
        _require_short_directory(archive)
        zipped = stack.enter_context(zipfile.ZipFile(archive))
        return _Contents(
            [
                _Member(entry.filename, entry.file_size, _zip_kind(entry), partial(zipped.open, entry))
                for entry in zipped.infolist()
            ]
        )
    try:
        tarred = stack.enter_context(tarfile.TarFile.open(archive, tarinfo=_bounded_headers()))
    except tarfile.ReadError as error:
        raise DataError(f"{archive} is neither a zip nor a tar archive") from error
    members = (_Member(info.name, info.size, _tar_kind(info), partial(_extract, tarred, info)) for info in tarred)
    return _Contents(members, partial(_read_to_the_end, tarred))


def _require_short_directory(archive: Path) -> None:
    with archive.open("rb") as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if end is None or end[zipfile._ECD_SIZE] > _MOST_DIRECTORY_BYTES:  # type: ignore[attr-defined]
        raise _Refused("has a list of members that is longer than 2 MiB")


def _bounded_headers() -> type[tarfile.TarInfo]:
    """Class of the headers of one tar archive, which refuses those that would take memory or time without bounds."""

    class Header(tarfile.TarInfo):
        total_bytes = 0

        def _proc_member(self, tarfile: tarfile.TarFile) -> Any:  # called for each header that was read
            if self.size < 0:
                raise _Refused(f"has a member of {self.size} bytes")
            if self.type in _HEADERS:
                Header.total_bytes += self.size
                if self.size > _MOST_HEADER_BYTES or Header.total_bytes > _MOST_HEADERS_BYTES:
                    raise _Refused(f"has a header that claims {self.size} bytes")
            return super()._proc_member(tarfile)  # type: ignore[misc]

        def _proc_gnusparse_10(self, *_: Any) -> Any:  # it reads a list of any length
            raise _Refused("holds a sparse file")

        def _proc_sparse(self, *_: Any) -> Any:
            raise _Refused("holds a sparse file")

    return Header


def _read_to_the_end(tarred: tarfile.TarFile) -> None:
    """Reads to the end: the checksum of a compressed archive follows the last member and is compared only there."""
    assert tarred.fileobj is not None, "it is open"
    while tarred.fileobj.read(2**20):
        pass


def _extract(tarred: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    opened = tarred.extractfile(info)
    assert opened is not None, "only files are extracted"
    return opened


def _zip_kind(entry: zipfile.ZipInfo) -> str:
    mode = entry.external_attr >> 16
    if entry.is_dir():
        return "folder"
    if stat.S_IFMT(mode) in (0, stat.S_IFREG):
        return "file"
    return "link" if stat.S_ISLNK(mode) else "special file"


def _tar_kind(info: tarfile.TarInfo) -> str:
    if info.isreg():
        return "file"
    if info.isdir():
        return "folder"
    return "link" if info.issym() or info.islnk() else "device or pipe"


def _checked(members: Iterable[_Member], archive: Path, folder: Path) -> list[_Member]:
    """The members of an archive, as they are read: so the first that is wrong ends the reading."""
    checked: list[_Member] = []
    seen = set()
    needed_bytes = 0
    for member in members:
        path = PurePosixPath(member.name)
        if member.kind not in ("file", "folder"):
            raise _Refused(f"holds a {member.kind}, {member.name}")
        if path.is_absolute() or ".." in path.parts or "\0" in member.name:
            raise DataError(f"{archive} holds {member.name}, which lies outside the folder: it is not to be trusted")
        if member.kind == "file" and path in seen:
            raise DataError(f"{archive} holds {member.name} twice: it is not to be trusted")
        if len(checked) == _MOST_MEMBERS:
            raise _Refused(f"holds more than {_MOST_MEMBERS} files")
        needed_bytes += member.size
        require_free_space(folder, needed_bytes, f"what is in {archive.name}")
        seen.add(path)
        checked.append(member)
    return checked


def _write(member: _Member, path: Path) -> None:
    if member.kind == "folder":
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, path.open("xb") as target:
        shutil.copyfileobj(source, target, 2**20)
