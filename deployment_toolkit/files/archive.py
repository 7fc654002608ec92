"""Unpacking of untrusted zip and tar archives; nothing is written outside the folder."""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import require_free_space

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # encrypted
)


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    kind: str  # file, folder, or the name of another kind
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class _Contents:
    members: list[_Member]
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
            _check(contents.members, archive)
            needed = sum(member.size for member in contents.members)
            require_free_space(folder, needed, f"what is in {archive.name}")
            folder.mkdir(parents=True, exist_ok=True)
            for member in contents.members:
                _write(member, folder / member.name)
            contents.finish()
    except _BROKEN as error:
        raise DataError(f"{archive} can't be unpacked: {error or 'it is cut short'}; fetch it again") from error
    except OSError as error:  # names that a file system can't have, or one below a file
        raise DataError(f"{archive} can't be unpacked into {folder}: {error}") from error


def _open(archive: Path, stack: ExitStack) -> _Contents:
    if zipfile.is_zipfile(archive):
        zipped = stack.enter_context(zipfile.ZipFile(archive))
        return _Contents(
            [
                _Member(entry.filename, entry.file_size, _zip_kind(entry), partial(zipped.open, entry))
                for entry in zipped.infolist()
            ]
        )
    if tarfile.is_tarfile(archive):
        tarred = stack.enter_context(tarfile.TarFile.open(archive))
        members = [
            _Member(info.name, info.size, _tar_kind(info), partial(_extract, tarred, info))
            for info in tarred.getmembers()
        ]
        return _Contents(members, partial(_read_to_the_end, tarred))
    raise DataError(f"{archive} is neither a zip nor a tar archive")


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


def _check(members: list[_Member], archive: Path) -> None:
    seen = set()
    for member in members:
        path = PurePosixPath(member.name)
        if member.kind not in ("file", "folder"):
            raise DataError(f"{archive} holds a {member.kind}, {member.name}: unpack it by hand if you trust it")
        if path.is_absolute() or ".." in path.parts or "\0" in member.name:
            raise DataError(f"{archive} holds {member.name}, which lies outside the folder: it is not to be trusted")
        if member.kind == "file" and path in seen:
            raise DataError(f"{archive} holds {member.name} twice: it is not to be trusted")
        seen.add(path)


def _write(member: _Member, path: Path) -> None:
    if member.kind == "folder":
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, path.open("xb") as target:
        shutil.copyfileobj(source, target, 2**20)
