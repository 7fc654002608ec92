"""Archives whose headers claim more than there is: one line, at once and in little memory."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.archive import unpack
from tests.limits import few_resources

_GB = 2**30
_END = bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def _sparse_map() -> Iterator[bytes]:
    """A member whose list of blocks has 50 million numbers."""
    version = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
    yield _header("x", len(version), tarfile.XHDTYPE) + _padded(version) + _header("x", 100 * 2**20)
    yield b"25000000\n"
    yield from (b"0\n" * 2**19 for _ in range(100))


TARS: dict[str, tuple[Callable[[], Iterator[bytes]], str]] = {
    "long name": (lambda: iter([_header("x", 6 * _GB, tarfile.GNUTYPE_LONGNAME)]), "a header that claims 6442450944"),
    "long link": (lambda: iter([_header("x", 6 * _GB, tarfile.GNUTYPE_LONGLINK)]), "a header that claims 6442450944"),
    "properties": (lambda: iter([_header("x", 6 * _GB, tarfile.XHDTYPE)]), "a header that claims 6442450944 bytes"),
    "global": (lambda: iter([_header("x", 2**62, tarfile.XGLTYPE)]), "a header that claims"),
    "properties that are there": (
        lambda: iter([_header("x", 6 * 2**20, tarfile.XHDTYPE), b"1" * 6 * 2**20]),
        "a header that claims 6291456",
    ),
    "many properties": (
        lambda: (_header("x", 8000, tarfile.XHDTYPE) + _padded(bytes(8000)) + _header(f"f{n}") for n in range(200)),
        "has a header that claims 8000",
    ),
    "headers of headers": (
        lambda: (_header("x", 2, tarfile.XHDTYPE) + _padded(b"\0\0") for _ in range(2000)),
        "can't be unpacked",
    ),
    "file": (lambda: iter([_header("x", 6 * _GB)]), "can't be unpacked"),
    "negative": (lambda: iter([_header("x", -512)]), "a member of -512 bytes"),
    "sparse": (lambda: iter([_header("x", 2**40, tarfile.GNUTYPE_SPARSE)]), "holds a sparse file"),
    "sparse map": (_sparse_map, "holds a sparse file"),
    "many files": (lambda: (_header(f"f{n}") for n in range(10_010)), "holds more than 10000 files"),
}


@pytest.mark.parametrize("compressed", [False, True], ids=["tar", "tar.gz"])
@pytest.mark.parametrize("case", TARS)
def test_claims_of_a_tar_header_are_not_believed(case: str, compressed: bool, tmp_path: Path) -> None:
    blocks, message = TARS[case]
    archive = tmp_path / "evil"
    with gzip.open(archive, "wb", 1) if compressed else archive.open("wb") as file:
        file.write(_header("good"))
        file.writelines(blocks())
        file.write(_END)
    with few_resources(), pytest.raises(DataError, match=message) as raised:
        unpack(archive, tmp_path / "folder")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("folder/*"))


def test_list_of_a_zip_is_not_read_without_bounds(tmp_path: Path) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for number in range(40):
            info = zipfile.ZipInfo(f"f{number}")
            info.comment = bytes(60_000)
            made.writestr(info, b"")
    with few_resources(), pytest.raises(DataError, match="has a list of members that is longer than 2 MiB"):
        unpack(archive, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
