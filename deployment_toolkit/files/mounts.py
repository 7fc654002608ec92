"""Mount points that this process sees. Source of the format: proc(5), ``/proc/<pid>/mountinfo``."""

from __future__ import annotations

import re
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
_OF_ONE_KERNEL = frozenset(
    ["bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"]
)


def mount_points() -> dict[Path, str]:
    """Type of the file system by mount point; empty where the kernel has no such table. Bind mounts are among them."""
    try:
        lines = _TABLE.read_bytes().decode(errors="surrogateescape").splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        fields, _, source = line.partition(" - ")
        found[Path(_unescaped(fields.split()[4]))] = source.split()[0]
    return found


def is_of_one_kernel(folder: Path) -> bool:
    """True if only processes of one kernel can use the folder's file system: it is not one that hosts share."""
    mounts = mount_points()
    place = folder.resolve()
    return next((mounts[item] in _OF_ONE_KERNEL for item in (place, *place.parents) if item in mounts), False)


def _unescaped(text: str) -> str:
    """Text of a table in which blanks, newlines and backslashes are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
