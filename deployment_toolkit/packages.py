"""Installed packages."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the packages that are installed, by name."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def versions_in(folders: Iterable[Path], names: Iterable[str]) -> dict[str, str]:
    """The same for the packages in other folders than this interpreter's, such as another environment's."""
    places = [str(folder) for folder in folders]
    found = {name: importlib.metadata.distributions(name=name, path=places) for name in names}
    return {name: package.version for name, packages in found.items() for package in packages}
