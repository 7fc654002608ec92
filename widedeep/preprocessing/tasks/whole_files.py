"""Files of tasks: complete and on the disk, or not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from deployment_toolkit.files.atomic import replace_when_complete


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """``replace_when_complete`` for a file that is on the disk, with its name, when the block has ended: a task that is
    done stays done when the host loses its power."""
    with replace_when_complete(path) as beside:
        yield beside
        _sync(beside)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
