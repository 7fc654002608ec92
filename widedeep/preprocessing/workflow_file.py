"""Fitted workflow as files: ``workflow.pkl``, ``metadata.json``, which names what it was made with, and ``tables/``.

The pickle holds numbers and names of classes, no code. So it can be read by another version of Python. Its large arrays
are in ``tables/``, and are mapped.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np

from deployment_toolkit.errors import DataError
from deployment_toolkit.files import fingerprint
from deployment_toolkit.files.atomic import replace_when_complete
from widedeep.preprocessing.documents import hash_ids
from widedeep.preprocessing.fitted.tables import FOLDER, Tables, table_path
from widedeep.preprocessing.nvtabular_import import import_nvtabular

PICKLE, METADATA = "workflow.pkl", "metadata.json"
_REMEDY = (
    "make it again with scripts/preproc.sh --raw-dir <raw files> --output-dir <data set> --force, or use the versions "
    "that made it"
)
_PACKAGES = ("nvtabular", "merlin-core", "pandas", "numpy", "scipy")
# Names in files of earlier versions of this project.
_EARLIER_MODULES = {
    f"widedeep.{name}": f"widedeep.preprocessing.{name}" for name in ("documents", "nvt_operators", "workflow")
}
_EARLIER_FUNCTIONS = {"_country": "country", "_state": "state"}
_EARLIER_OPERATORS = ("ClickRates", "FillExactMedian")  # in nvt_operators


def save_workflow(workflow: Any, folder: Path) -> None:
    """Writes a fitted workflow to a folder, whole or not at all. Raises ``pickle.PicklingError`` or AttributeError if
    it holds a lambda or another function without a name in a module."""
    with replace_when_complete(folder) as beside:
        beside.mkdir()
        _save(workflow, beside)


def _save(workflow: Any, folder: Path) -> None:
    with (folder / PICKLE).open("wb") as file:
        hashing = _Hashing(file)
        pickler = _Pickler(hashing, protocol=5)  # the standard pickle stores no bytecode, unlike NVTabular's own
        pickler.dump(workflow)
    sums: dict[str, str] = {}
    for tables in pickler.tables:
        sums |= tables.write(folder / FOLDER)
    # NVTabular's Workflow.load reads the first key. There is no time: the same data give the same file.
    description = {
        "versions": _versions() | {"python": sys.version, "nvtabular": import_nvtabular().__version__},
        "sha256": hashing.digest.hexdigest(),
        "tables": sums,
        "hash_buckets": _hash_buckets(),
    }
    (folder / METADATA).write_text(json.dumps(description, indent=1) + "\n")


def load_workflow(folder: Path) -> Any:
    """Reads a workflow that ``save_workflow`` or NVTabular wrote. Reading a pickle can run any code, so it must be from
    somebody whom you trust.

    Raises DataError, with the remedy, if there is none, if it is damaged, or if this Python and these packages can't
    read it or would hash ids to other buckets.
    """
    path = folder / PICKLE
    if not path.is_file():
        raise DataError(f"there is no workflow at {folder}: give the folder workflow/ of a preprocessed data set")
    description = _description(folder)
    with path.open("rb") as file:
        if description.get("sha256", "") not in ("", hashlib.file_digest(file, "sha256").hexdigest()):
            raise DataError(
                f"workflow {path} is damaged, or not the one that {METADATA} describes: copy the folder again, or "
                f"{_REMEDY}"
            )
    made_with = _made_with(description)
    if description.get("hash_buckets", _hash_buckets()) != _hash_buckets():
        raise DataError(
            f"workflow {folder} was made with {_named(made_with)}, which hashed ids to other buckets than pandas "
            f"{_versions()['pandas']} does: {_REMEDY}"
        )
    nvtabular = import_nvtabular()
    try:
        with path.open("rb") as file:
            unpickler = _Unpickler(file, made_with)
            workflow = unpickler.load()
    except Exception as error:  # a pickle can raise any error
        raise DataError(
            f"workflow {folder} can't be read: {' '.join(str(error).split()) or type(error).__name__}; it was made "
            f"with {_named(made_with)}, here is {_named(_versions())}: {_REMEDY}"
        ) from error
    if not isinstance(workflow, nvtabular.Workflow):
        raise DataError(f"{path} holds a {type(workflow).__name__}, no NVTabular workflow: {_REMEDY}")
    for tables in unpickler.tables:
        _check_tables(folder, tables, description)
        tables.map(folder / FOLDER)
    _find_files(workflow, folder)
    return workflow


def _find_files(workflow: Any, folder: Path) -> None:
    """Tells NVTabular's operators, of which some keep files of their own, where the workflow's folder is now."""
    from merlin.dag import Graph
    from nvtabular.ops import StatOperator

    for node in Graph.get_nodes_by_op_type([workflow.output_node], StatOperator):
        node.op.set_storage_path(str(folder), copy=False)


def _check_tables(folder: Path, tables: Tables, description: dict[str, Any]) -> None:
    """Compares the files of tables with their checksums. Raises DataError, which names the file."""
    sums = description.get("tables")
    for name in tables.names:
        path = table_path(folder / FOLDER, name)
        if not isinstance(sums, dict) or name not in sums:
            problem = f"has no checksum in {folder / METADATA}"
        elif not path.is_file():
            problem = "is missing"
        elif fingerprint.of_path(path) != sums[name]:
            problem = f"is damaged, or not the one that {METADATA} describes"
        else:
            continue
        raise DataError(f"table {path} of the workflow {problem}: copy the whole folder again, or {_REMEDY}")


class _Hashing:
    """Output file that hashes what is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.digest = hashlib.sha256()
        self._file = file

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)


class _Pickler(pickle.Pickler):
    """Writes of tables their names alone, and keeps them for their own files."""

    def __init__(self, file: Any, protocol: int) -> None:
        super().__init__(file, protocol=protocol)
        self.tables: list[Tables] = []

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, Tables):
            return NotImplemented
        self.tables.append(value)
        return Tables, (tuple(value.names),)


class _Unpickler(pickle.Unpickler):
    """Refuses, before it runs, what only the version that wrote it can run: another version may crash on it. Keeps the
    tables that it makes, for their files to be mapped."""

    def __init__(self, file: IO[bytes], made_with: dict[str, str]) -> None:
        super().__init__(file)
        self._made_with = made_with
        self.tables: list[Tables] = []

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (Tables.__module__, Tables.__name__):
            return self._awaited_tables
        package = module.split(".")[0]
        if package == "cloudpickle" and _differ(self._made_with, "python", 2):
            raise ValueError("it holds functions as bytecode, which only the same version of Python can run")
        if package == "pandas" and _differ(self._made_with, "pandas", 1):
            raise ValueError("it holds objects of pandas, which only the same version of pandas can read")
        module = _EARLIER_MODULES.get(module, module)
        if module == "widedeep.preprocessing.workflow" and name in _EARLIER_FUNCTIONS:
            module, name = "widedeep.preprocessing.nvt_operators", _EARLIER_FUNCTIONS[name]
        if module == "widedeep.preprocessing.nvt_operators" and name in _EARLIER_OPERATORS:
            module = "widedeep.preprocessing.fitted.operators"
        return super().find_class(module, name)

    def _awaited_tables(self, names: tuple[str, ...]) -> Tables:
        self.tables.append(Tables(names))
        return self.tables[-1]


def _description(folder: Path) -> dict[str, Any]:
    path = folder / METADATA
    try:
        description = json.loads(path.read_text())
        if isinstance(description["versions"]["python"], str) and description["versions"]["python"].strip():
            return dict(description)
        problem = "its python is no text"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
    raise DataError(
        f"{path} doesn't say with what the workflow was made: {problem}; copy the whole folder, or {_REMEDY}"
    )


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES}


def _made_with(description: dict[str, Any]) -> dict[str, str]:
    versions = {name: str(version) for name, version in description["versions"].items()}
    return versions | {"python": versions["python"].split()[0]}


def _named(versions: dict[str, str]) -> str:
    return ", ".join(f"{name.replace('python', 'Python')} {version}" for name, version in versions.items())


def _differ(made_with: dict[str, str], name: str, parts: int) -> bool:
    """True if the first ``parts`` numbers of a version are others here."""
    return made_with.get(name, "").split(".")[:parts] != _versions()[name].split(".")[:parts]


def _hash_buckets() -> list[int]:
    """Buckets of a few ids and strings: the same as long as pandas hashes alike."""
    strings, ids = np.array(["", "US>CA>807", "São Paulo"], dtype=object), np.array([-1, 0, 59218, 2**40])
    return [*hash_ids(strings, 2**31 - 1).tolist(), *hash_ids(ids, 2**31 - 1).tolist()]
