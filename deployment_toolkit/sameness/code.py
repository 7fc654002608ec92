"""Digest of the code behind a program: the program's file, and the modules of this checkout that it can import."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.files import fingerprint

_COMPILED = {"__pycache__", "build"}  # folders of what is made from the code


def code_digest(programs: Iterable[Path]) -> str:
    """First digits of the SHA-256 of these Python files, of the modules of this checkout that they can import, directly
    or not, and of the other files in those modules' packages, as C++ sources. An import inside a function counts, and
    so does a module that a text names, as ``package.module:Class``."""
    found: set[Path] = set()
    pending = [program.resolve() for program in programs]
    while pending:
        file = pending.pop()
        if file not in found:
            found.add(file)
            pending += _imported(file)
    packages = {file.parent for file in found if file.name == "__init__.py" and file.parent.parent != ROOT}
    others = (file for package in packages for file in package.rglob("*") if file.is_file() and file.suffix != ".py")
    files = found | {file for file in others if _COMPILED.isdisjoint(file.relative_to(ROOT).parts)}
    digest = hashlib.sha256()
    for file in sorted(files):
        name = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
        digest.update(f"{name}\0{fingerprint.of_path(file)}\n".encode())
    return digest.hexdigest()[:16]


def module_file(name: str) -> Path | None:
    """File of a module of this checkout; None for any other name."""
    place = ROOT.joinpath(*name.split("."))
    files = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


@functools.cache
def _imported(file: Path) -> tuple[Path, ...]:
    """Files of the checkout's modules that a file names, with the packages around them."""
    files: set[Path] = set()
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # a user's module, whose own error comes when it is loaded
        return ()
    for name in _names(tree):
        parts = name.split(".")
        wholes = (".".join(parts[:size]) for size in range(1, len(parts) + 1))
        files |= {found for whole in wholes if (found := module_file(whole)) is not None}
    return tuple(files)


def _names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            if "." in name and all(part.isidentifier() for part in name.split(".")):
                yield name
