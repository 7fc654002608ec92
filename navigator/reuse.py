"""The ledger of a workspace: results and their origins, so that a second call reuses them."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from deployment_toolkit import library, packing
from deployment_toolkit.core import Format
from deployment_toolkit.errors import DataError
from deployment_toolkit.files import fingerprint
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.options.located_yaml import load_yaml
from deployment_toolkit.options.mapping import to_plain
from deployment_toolkit.packages import installed_versions

logger = logging.getLogger("convert")

_TENSORFLOW = ("tensorflow", "tensorflow-cpu")
# Names of the packages that read, write and run a format.
_PACKAGES = {
    Format.TF_SAVEDMODEL: _TENSORFLOW,
    Format.TF_TRT: (*_TENSORFLOW, "tensorrt"),
    Format.ONNX: ("onnx", "onnxruntime", "onnxruntime-gpu", "tf2onnx"),
    Format.TRT: ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    Format.OPENVINO: ("openvino",),
}


class Ledger:
    """Outcomes by topic, each with its origin, in a YAML file that is written at every note.

    An origin is a mapping of plain values; it counts as unchanged only if all of them are equal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = _read(path)

    def recall(self, topic: str, origin: Mapping[str, Any]) -> Any:
        """Outcome that was noted for the same origin; None if there is none. A changed origin is logged."""
        entry = self._entries.get(topic)
        if entry is None:
            return None
        known, wanted = entry["from"], to_plain(origin)
        changed = sorted(key for key in known.keys() | wanted.keys() if known.get(key) != wanted.get(key))
        if changed:
            logger.info("%s: made before, but changed since: %s", topic, ", ".join(changed))
            return None
        return entry["outcome"]

    def note(self, topic: str, origin: Mapping[str, Any], outcome: Any) -> None:
        """Records an outcome in place of the topic's earlier one."""
        self._entries[topic] = {"from": to_plain(origin), "outcome": outcome}
        write_text(self._path, yaml.safe_dump(self._entries, sort_keys=False, width=120))

    def forget(self, topic: str) -> None:
        """Drops a topic whose result is about to be replaced."""
        if self._entries.pop(topic, None) is not None:
            write_text(self._path, yaml.safe_dump(self._entries, sort_keys=False, width=120))


def tool_versions(formats: Iterable[Format]) -> dict[str, str]:
    """Versions of the installed packages for these formats, and a digest of this project's code for them."""
    names = sorted({name for model_format in formats for name in _PACKAGES.get(model_format, ())})
    return {"deployment_toolkit.library": _own_code(), **installed_versions(names)}


@functools.cache
def _own_code() -> str:
    digest = hashlib.sha256()
    files = [file for folder in library.__path__ for file in sorted(Path(folder).rglob("*.py"))]
    for file in (*files, Path(packing.__file__)):
        digest.update(fingerprint.of_path(file).encode())
    return digest.hexdigest()[:16]


def _read(path: Path) -> dict[str, Any]:
    """Entries of a ledger's file; empty if it is missing or damaged."""
    if not path.exists():
        return {}
    try:
        entries = load_yaml(path).plain
        sound = isinstance(entries, dict) and all(
            isinstance(entry, dict) and isinstance(entry.get("from"), dict) and "outcome" in entry
            for entry in entries.values()
        )
        problem = "" if sound else "it holds something else than results"
    except DataError as error:
        problem = str(error)
    if problem:
        logger.warning("%s can't be read: nothing is reused (%s)", path, problem)
        return {}
    return dict(entries)
