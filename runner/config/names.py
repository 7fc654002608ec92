"""Names in a configuration that become names of folders."""

from __future__ import annotations

import os

from deployment_toolkit.errors import UsageError

_MOST_BYTES = 200  # a file system's 255, less what is added for files that belong to it


def require_folder_name(key: str, name: str) -> None:
    """Raises UsageError for a name that can't be a folder's, or that would lead out of the folder that it is in."""
    if name in ("", ".", "..") or "/" in name or not name.isprintable():
        raise UsageError(
            f"{key} {name!r} can't be the name of a folder: it may be neither empty nor . nor .., and may hold no "
            "slash and no control character"
        )
    length = len(os.fsencode(name))
    if length > _MOST_BYTES:
        raise UsageError(f"{key} {name[:20]}… is {length} bytes long, more than {_MOST_BYTES}: choose a shorter name")
