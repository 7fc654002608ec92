"""Checksums of a folder's files, in the file ``SHA256SUMS`` among them, as ``sha256sum`` writes and checks them.

They show that a file was cut or changed by accident: whoever may write the files may write their checksums, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from deployment_toolkit.errors import DataError, ModelError
from deployment_toolkit.files import fingerprint
from deployment_toolkit.files.texts import read_text

CHECKSUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_REMEDY = "deploy the model again (model-navigator triton-config-model)"


def checksums_of(files: Mapping[str, Path]) -> dict[str, str]:
    """Hex digests of files, and of those in folders, by their names relative to the folder for which ``files`` gives
    their sources by name. About 1.5 GB/s. Raises ModelError for a name that no line can hold."""
    sums = {}
    for name, source in sorted(files.items()):
        parts = [source] if source.is_file() else sorted(item for item in source.rglob("*") if item.is_file())
        for part in parts:
            place = name if part == source else f"{name}/{part.relative_to(source).as_posix()}"
            if place.splitlines() != [place] or any("\ud800" <= letter <= "\udfff" for letter in place):
                raise ModelError(f"{source} holds a file named {place!r}, which no list can hold: rename it")
            sums[place] = fingerprint.of_path(part)
    return sums


def checksums_text(sums: Mapping[str, str]) -> str:
    """Content of ``SHA256SUMS``."""
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items())


def require_unchanged(folder: Path) -> bool:
    """True if each file that the folder's list names is as it was, False if there is no list. Raises ModelError, which
    names the file, if one is missing or another than it was, or if the list is damaged."""
    path = folder / CHECKSUMS
    if not path.is_file():
        return False
    try:
        lines = read_text(path).splitlines()
    except DataError as error:
        raise ModelError(f"{error}, or {_REMEDY}") from error
    for number, line in enumerate(lines or [""], 1):
        entry = _LINE.fullmatch(line)
        if entry is None:
            raise ModelError(f"{path}:{number}: this is no checksum: {_REMEDY}")
        file = folder / entry[2]
        if not file.is_file():
            raise ModelError(f"{file} is missing: {_REMEDY}")
        found = fingerprint.of_path(file)
        if found != entry[1]:
            raise ModelError(
                f"{file} is not the file that was deployed: its SHA-256 is {found}, not {entry[1]}: {_REMEDY}"
            )
    return True
