"""What unfinished work was begun with, so that it goes on only with the same."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import platform
from importlib import metadata
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import ClusterError
from deployment_toolkit.sameness.code import code_digest
from widedeep.features.spec import FeatureSpec
from widedeep.preprocessing.raw_csv import SCHEMAS
from widedeep.preprocessing.raw_files import RawDir, find_tables
from widedeep.preprocessing.tasks.layout import Layout

_PACKAGES = ("nvtabular", "merlin-core", "pandas", "numpy", "scipy", "pyarrow")
_END_BYTES = 1 << 16


def made_from(raw_dir: RawDir, spec: FeatureSpec, layout: Layout) -> dict[str, str]:
    """What the files of the work are a function of, by its name for people.

    A raw table is told by its files' paths, sizes, times of change and first and last 64 KiB: reading all of them would
    take as long as dealing them.
    """
    tables = {name: _of_files([table.path for table in find_tables(raw_dir, name)]) for name in SCHEMAS}
    return {
        **tables,
        "the feature specification": hashlib.sha256(spec.to_yaml().encode()).hexdigest(),
        "sizes of tasks": str(dataclasses.astuple(layout)),
        **environment(),
    }


@functools.lru_cache(maxsize=1)
def environment() -> dict[str, str]:
    """This project's code and the packages that decide the values of features, of this process."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    return {
        "this project's code": code_digest([ROOT / "widedeep" / "preprocessing" / "__main__.py"]),
        "packages": f"Python {platform.python_version()}, {versions}",
    }


def require_environment(wanted: dict[str, str]) -> None:
    """Raises ClusterError if this process, a worker, has other code or packages than the one that sends the tasks."""
    here = environment()
    other = next((name for name, value in wanted.items() if here[name] != value), None)
    if other is not None:
        raise ClusterError(
            f"a worker has another version of {other}: {here[other]} instead of {wanted[other]}; start all workers "
            "from the same checkout and environment as the command"
        )


def _of_files(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        stat = path.stat()
        digest.update(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(_END_BYTES))
            file.seek(max(0, stat.st_size - _END_BYTES))
            digest.update(file.read(_END_BYTES))
    return digest.hexdigest()
