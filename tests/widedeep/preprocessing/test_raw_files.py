"""Raw tables in another wrapping: read as if they were plain, or refused in one line, but never missing."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError
from tests.widedeep.preprocessing.conftest import Join
from widedeep.preprocessing.raw_csv import EVENTS, META, check_files

Wrap = Callable[[Path], object]


def _zip(path: Path, *members: str, name: str = "{}.zip") -> None:
    with zipfile.ZipFile(path.with_name(name.format(path.name)), "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members or (path.name,):
            archive.writestr(member, path.read_bytes())
    path.unlink()


def _compress(path: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    path.with_name(path.name + suffix).write_bytes(compress(path.read_bytes()))
    path.unlink()


def _folder(path: Path, inner: str, folder: str = "{}") -> Path:
    text = path.read_bytes()
    path.unlink()
    made = path.with_name(folder.format(path.name))
    made.mkdir()
    (made / inner).write_bytes(text)
    return made


def _zip_of_before(path: Path) -> Path:
    with zipfile.ZipFile(path.with_name(path.name + ".zip"), "w") as archive:
        archive.writestr(path.name, "an older state")
    return path


def _tar(data: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("documents_meta.csv")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


READ: dict[str, Wrap] = {
    "zip": lambda path: _zip(path),
    "zip without csv in its name": lambda path: _zip(
        path, name="Documents_Meta.ZIP" if path.name == META else "{}.zip"
    ),
    "zip of a Mac": lambda path: _zip(path, f"data/{path.name}", f"__MACOSX/data/._{path.name}"),
    "gz": lambda path: _compress(path, ".gz", gzip.compress),
    "gz under the plain name": lambda path: path.write_bytes(gzip.compress(path.read_bytes())),
    "bz2": lambda path: _compress(path, ".bz2", bz2.compress),
    "xz": lambda path: _compress(path, ".xz", lzma.compress),
    "folder": lambda path: _folder(path, path.name),
    "folder of Spark's": lambda path: (_folder(path, "part-00000-ab12.csv") / "_SUCCESS").write_text(""),
    "folder and the zip it came from": lambda path: _zip_of_before(_folder(path, path.name)),
    "other letters": lambda path: path.rename(path.with_name(path.name.upper())),
}


@pytest.mark.parametrize("name", [META, EVENTS])
@pytest.mark.parametrize("wrap", READ.values(), ids=READ)
def test_wrapped_table_gives_the_rows_of_the_plain_one(
    wrap: Wrap, name: str, raw: Path, few_raw: Path, join: Join
) -> None:
    wrap(raw / name)
    assert join(raw) == join(few_raw)


REFUSED: dict[str, tuple[Wrap, str]] = {
    "zstd": (lambda path: _compress(path, ".zst", lambda _: b"\x28\xb5\x2f\xfd rest"), "csv.zst is no CSV.*`zstd -d`"),
    "7z": (lambda path: _compress(path, ".7z", lambda _: b"7z\xbc\xaf\x27\x1c"), "csv.7z is no CSV file.*`7z x`"),
    "tar": (lambda path: _compress(path, ".tar.gz", lambda data: gzip.compress(_tar(data))), "tar.gz is .*`tar xf`"),
    "parquet": (lambda path: _compress(path, ".parquet", lambda _: b"PAR1"), "csv.parquet can't be read as parquet"),
    "packed twice": (
        lambda path: _compress(path, ".gz.gz", lambda data: gzip.compress(gzip.compress(data))),
        "packed twice, unpack it",
    ),
    "two in a zip": (
        lambda path: _zip(path, path.name, "b.csv"),
        r"csv.zip holds .*, b.csv, not documents_meta.csv al",
    ),
    "cut gz": (lambda path: _compress(path, ".gz", lambda data: gzip.compress(data)[:-900]), "csv.gz can't be read: "),
    "cut zip": (
        lambda path: _compress(path, ".zip", lambda data: b"PK\x03\x04" + data[:99]),
        r"csv.zip can't be read: .*; fetch or unpack it again",
    ),
    "empty folder": (lambda path: (_folder(path, "x") / "x").unlink(), "is a folder that holds no file: put the rows"),
    "folder with another file": (
        lambda path: (_folder(path, "a.csv") / "readme.txt").write_text(""),
        "is a folder that holds readme.txt: put the rows of documents_meta.csv into files of CSV or parquet",
    ),
    "two wrappings": (
        lambda path: _compress(_zip_of_before(path), ".gz", gzip.compress),
        r"holds documents_meta.csv.gz, documents_meta.csv.zip: keep one, as documents_meta.csv",
    ),
    "another name": (
        lambda path: path.rename(path.with_name("documents_meta (1).csv")),
        r"documents_meta \(1\).csv is there, documents_meta.csv is not: write the table as",
    ),
    "link to nothing": (
        lambda path: path.rename(path.with_name("x.csv")).with_name(path.name).symlink_to("nowhere"),
        "documents_meta.csv is no file, or a link to nothing",
    ),
    "in an archive of another name": (
        lambda path: _zip(path, path.name, "x.csv", name="outbrain.zip"),
        "documents_meta.csv is not in .*, but .*outbrain.zip/documents_meta.csv is: move or unpack it",
    ),
    "in a tar of another name": (
        lambda path: path.rename(path.with_name("outbrain.tar")),
        "lacks documents_meta.csv, maybe in outbrain.tar: unpack it there, or move it away",
    ),
    "in a folder below": (
        lambda path: _folder(path, path.name, folder="outbrain"),
        "documents_meta.csv is not in .*, but .*outbrain/documents_meta.csv is: move or unpack it",
    ),
}


@pytest.mark.parametrize(("wrap", "message"), REFUSED.values(), ids=REFUSED)
def test_table_that_is_there_but_cannot_be_read_is_refused(wrap: Wrap, message: str, raw: Path, join: Join) -> None:
    wrap(raw / META)
    with pytest.raises(DataError, match=message) as raised:
        join(raw)
    assert "\n" not in str(raised.value)


def test_archives_of_other_tables_do_not_matter(raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    (raw / META).unlink()
    (raw / "page_views.csv").write_text("uuid")
    _zip(raw / "page_views.csv")
    (raw / "clicks_test.csv.7z").write_bytes(b"7z\xbc\xaf\x27\x1c")
    check_files(raw)
    assert "lacks documents_meta.csv: the features made of it stay empty" in caplog.text
