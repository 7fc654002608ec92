"""Files that are still there when the host loses its power."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from deployment_toolkit.files.atomic import replace_when_complete


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """``replace_when_complete`` for a file that is on the disk, with its name, when the block has ended."""
    with replace_when_complete(path) as beside:
        yield beside
        to_disk(beside)
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Waits until the disk has a file's content, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
