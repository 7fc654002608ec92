"""Where a new file or folder is made and put: links are followed, mount points filled, and what can't be written is
found before the work."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import DataError, host_problem
from deployment_toolkit.files.mounts import mount_points
from deployment_toolkit.files.scratch import entries


@dataclass(frozen=True)
class Place:
    """The path to write, which is no link, and the folder for its scratch names: the one above, or the path itself, if
    that is a folder that can't be renamed (``is_filled``)."""

    path: Path
    scratch_folder: Path
    is_filled: bool


def find_place(path: Path, *, replaces_all: bool) -> Place:
    """Place of a new file or folder ``path``; the folder above is made.

    Raises DataError, with the remedy, if the path can't be replaced or filled: a mount point of a single file or within
    the folder, a link to nothing, a name that is too long, or a folder that can't be renamed and holds files, unless
    ``replaces_all``.
    """
    try:
        target = _followed(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        there = target.is_dir()
    except OSError as error:
        raise DataError(unwritable(path, error)) from error
    mounts = mount_points()
    reason = _refusal(target, there, mounts)
    if reason:
        raise DataError(f"{path} can't be written: {reason}")
    if not there or not (target in mounts or _is_in_use(target) or not _can_rename(target)):
        return Place(target, target.parent, False)
    held = entries(target)
    if held and not replaces_all:
        raise DataError(
            f"{path} can't be written: this folder can't be renamed (it is a mount point, the current folder or in a "
            f"folder of another user) and holds {held[0].name}; empty it or name a folder in it"
        )
    return Place(target, target, True)


def _refusal(target: Path, there: bool, mounts: Iterable[Path]) -> str:
    """Reason why a path must not be replaced; empty if there is none. ``there``: it is a folder."""
    if target == target.parent:
        return "it is the root of all folders; choose another place"
    if target in mounts and not there:
        return "it is the mount point of a single file; mount the folder above it"
    inner = next((item for item in mounts if there and target in item.parents), None)
    return "" if inner is None else f"{inner} in it is a mount point; unmount it or choose another place"


def unwritable(path: Path, error: OSError) -> str:
    """Message about an error of writing ``path``."""
    reason = host_problem(error)
    return f"{path} can't be written: {reason or f'{error.strerror}; choose another place or make room'}"


def _followed(path: Path) -> Path:
    """The path, made absolute, or what it links to. Raises OSError for a name that is too long."""
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DataError(f"{path} can't be written: a link leads back to itself; remove the link") from error
    is_link = path.is_symlink()
    target = path.resolve() if is_link or path.name in ("", "..") else path.parent.resolve() / path.name
    if is_link and not target.parent.is_dir():
        raise DataError(f"{path} can't be written: it is a link to {target}; make or mount the folder {target.parent}")
    return target


def _is_in_use(folder: Path) -> bool:
    """True for the current folder and those above it: a shell in it would not see a folder put in its place."""
    with contextlib.suppress(FileNotFoundError):
        return Path.cwd().is_relative_to(folder)
    return False


def _can_rename(folder: Path) -> bool:
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        return False
    above = folder.parent.stat()
    owners = (0, above.st_uid, folder.stat().st_uid)
    return not above.st_mode & stat.S_ISVTX or os.geteuid() in owners
