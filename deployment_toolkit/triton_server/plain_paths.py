"""Paths without blanks, quotes or letters beyond ASCII. Triton's Python backend starts a model's process by a line of
shell, in which other paths would be torn apart."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deployment_toolkit.files.scratch import remove_left, scratch_names
from deployment_toolkit.machine import SHARED_MEMORY
from deployment_toolkit.users import User

_PLAIN = re.compile(r"[A-Za-z0-9_./@%+=:,-]+")
_NAME = "tritonserver"


@contextlib.contextmanager
def plain_folder() -> Iterator[Path]:
    """A new folder for temporary files, removed when the block is left, or after a kill by the next call. Its path is
    plain whatever TMPDIR is."""
    places = [Path(tempfile.gettempdir()), Path("/tmp"), SHARED_MEMORY]
    place = next(place for place in places if _PLAIN.fullmatch(str(place)) and place.is_dir())
    remove_left(place)
    with scratch_names(place, _NAME) as scratch:
        folder = scratch.path("partial")
        folder.mkdir(mode=0o700)
        yield folder


def own_places(folder: Path, user: User | None) -> dict[str, str]:
    """Variables for a server that name a new folder in ``folder`` for its temporary files, which is ``user``'s, or this
    process's user's, alone. Another user can't write in root's home, either."""
    place = folder / "tmp"
    place.mkdir(mode=0o700)
    if user is None:
        return {"TMPDIR": str(place)}
    os.chown(place, user.uid, user.gid)
    return {"TMPDIR": str(place), "HOME": str(place)}


def plain_path(path: Path, folder: Path) -> Path:
    """The absolute path of a file or folder, or of a new link to it in ``folder`` if its own path is not plain."""
    resolved = path.resolve()
    if _PLAIN.fullmatch(str(resolved)):
        return resolved
    link = folder / "link"
    link.symlink_to(resolved)
    return link
