"""What decides the result of a command: its options, the files that they name, and the code."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import itertools
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError
from deployment_toolkit.files.patterns import find_files
from deployment_toolkit.packages import installed_versions
from deployment_toolkit.sameness.code import code_digest, module_file

# The engines and the clients. What they are built on comes with their versions.
_PACKAGES = (
    *("tensorflow", "tensorflow-cpu", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tf2onnx"),
    *("numpy", "nvidia-pytriton", "tritonclient", "triton-model-analyzer", "nvtabular"),
)
_PATTERN = "*?["
_DIGITS = 16


@dataclass(frozen=True)
class Origin:
    """What a result depends on, in parts that are compared one by one: ``parts`` by the name that a person reads."""

    parts: dict[str, Any]

    def changed(self, earlier: object) -> list[str]:
        """Names of the parts that differ from those of an earlier origin, sorted; all if that one can't be read."""
        known = earlier if isinstance(earlier, dict) else {}
        return sorted(name for name in self.parts.keys() | known.keys() if self.parts.get(name) != known.get(name))


def command_origin(commands: Sequence[Sequence[str]], *, without: Collection[str], own: Sequence[Path]) -> Origin:
    """Origin of what commands make. Options in ``without`` don't count, with their values. Files below the folders
    ``own`` are not looked at, because the commands make them or the caller compares them. Other files that the options
    name count by name, size and time of change, Python's by their content and that of the modules they import."""
    kept = [without_options(command, without) for command in commands]
    named = {part for command in kept for part in command[1:]}
    outside = sorted(part for part in named if not any(Path(part).absolute().is_relative_to(folder) for folder in own))
    programs = {file for command in kept for file in _programs(command)}
    return Origin(
        {
            "options": [[part.removeprefix(f"{ROOT}/") for part in command[1:]] for command in kept],
            "files": files_digest(file for part in outside for file in _files(part) if file not in programs),
            "code": code_digest(sorted(programs)),
            "packages": _versions(),
        }
    )


def files_digest(files: Iterable[Path]) -> str:
    """First digits of a digest of the names, sizes and times of change of files, and of all files in folders; what a
    Python left compiled in them doesn't count."""
    digest = hashlib.sha256()
    for file in sorted(set(_all(files))):
        known = file.stat()
        digest.update(f"{file}\0{known.st_size}\0{known.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:_DIGITS]


def _all(files: Iterable[Path]) -> Iterator[Path]:
    for file in files:
        if file.is_dir():
            yield from (item for item in file.rglob("*") if item.is_file() and item.suffix != ".pyc")
        elif file.is_file():
            yield file


def without_options(command: Sequence[str], names: Collection[str]) -> list[str]:
    """A command without these options and their values."""
    kept: list[str] = []
    dropping = False
    for part in command:
        if part.startswith("--"):
            dropping = part.partition("=")[0] in names
        if not dropping:
            kept.append(part)
    return kept


def _programs(command: Sequence[str]) -> Iterator[Path]:
    """Python files that a command runs or names, and the module after ``-m``; an installed program of this project has
    the name of its package."""
    installed = _installed_program(Path(command[0]).name)
    if installed is not None:
        yield installed
    for before, part in itertools.pairwise(command):
        module = module_file(part) if before == "-m" else None
        if module is not None and module.name == "__init__.py":
            module = module_file(f"{part}.__main__")
        if module is not None:
            yield module
        elif part.endswith(".py") and Path(part).is_file():
            yield Path(part).resolve()


@functools.cache
def _installed_program(name: str) -> Path | None:
    """Module of this checkout that an installed program starts."""
    scripts = importlib.metadata.entry_points(group="console_scripts", name=name)
    return next((file for script in scripts if (file := module_file(script.module)) is not None), None)


@functools.cache
def _versions() -> dict[str, str]:
    return {"python": sys.version.split()[0], **installed_versions(_PACKAGES)}


def _files(part: str) -> list[Path]:
    value = part.partition("=")[2] if part.startswith("--") else part
    if not value:
        return []
    if any(sign in value for sign in _PATTERN):
        try:
            return find_files([value])
        except (DataError, OSError):
            return []
    try:
        return [Path(value).absolute()] if Path(value).exists() else []
    except OSError:  # too long for a name
        return []
