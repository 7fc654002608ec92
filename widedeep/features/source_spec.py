"""Section ``source_spec`` of a feature specification: files with the rows for training and for tests."""

from __future__ import annotations

from collections.abc import Collection

from deployment_toolkit.options.located_yaml import Located, nearest

TRAIN, TEST = "train", "test"
MAPPINGS = (TRAIN, TEST, "valid")
_CHUNK_KEYS = ("type", "features", "files")


def read_source_spec(
    section: Located, defined: Collection[str], needed: Collection[str], group_id: str | None
) -> dict[str, tuple[str, ...]]:
    """Reads the file patterns by mapping, relative to the specification's folder.

    A chunk without ``features`` has all features. Raises DataError, with the line, for a chunk that isn't parquet, has
    no files, lists a feature that isn't ``defined``, or lacks a ``needed`` one; training does not need the group id.
    """
    mappings = section.entries("source_spec")
    section.check_keys("source_spec", MAPPINGS)
    files: dict[str, tuple[str, ...]] = {}
    for mapping, chunks in mappings.items():
        wanted = [*needed, *([group_id] if group_id is not None and mapping != TRAIN else [])]
        found: list[str] = []
        for chunk in chunks.items(f"source_spec {mapping}"):
            found += _read_chunk(chunk, f"source_spec {mapping}", defined, wanted)
        if not found:
            raise chunks.error(f"source_spec {mapping} names no files: list them, or leave {mapping} out")
        files[mapping] = tuple(found)
    return files


def _read_chunk(chunk: Located, where: str, defined: Collection[str], needed: list[str]) -> list[str]:
    chunk.check_keys(where, _CHUNK_KEYS)
    entries = chunk.entries(where)
    for key in ("type", "files"):
        if key not in entries:
            raise chunk.error(f"{where}: a chunk lacks its key {key}, add it")
    kind = entries["type"]
    if kind.value != "parquet":
        raise kind.error(f"{where}: the type is {kind.shown}, only parquet is read: convert the files")
    if "features" in entries:
        _check_features(entries["features"], where, defined, needed)
    files = entries["files"].items(f"{where}: files")
    if not files:
        raise entries["files"].error(f"{where}: files is empty: list the files of the chunk")
    return [file.text(f"{where}: a file") for file in files]


def _check_features(features: Located, where: str, defined: Collection[str], needed: list[str]) -> None:
    lines: dict[str, int] = {}
    for item in features.items(f"{where}: features"):
        name = item.text(f"{where}: a feature")
        if name not in defined:
            raise item.error(f"{where} lists {name}, which feature_spec does not define{nearest(name, defined)}")
        if name in lines:
            raise item.error(f"{where} lists {name} twice, first in line {lines[name]}: leave one out")
        lines[name] = item.line
    missing = [name for name in needed if name not in lines]
    if missing:
        told = ", ".join(missing)
        raise features.error(f"{where} lacks {told}, which channel_spec uses: every chunk holds all features, list it")
