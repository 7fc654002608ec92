"""Disk space that a run keeps back for its own records, in case other files fill the disk."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from deployment_toolkit.errors import DataError, host_problem

logger = logging.getLogger("runner")

_SIZES_BYTES = tuple(size * 2**20 for size in (8, 4, 2, 1))  # the first is twice a report with its pictures
RESERVE = ".reserve"


class Reserve:
    """A file in the folder of a run, as large as what is to be written at its end. It is removed when a write fails,
    made again, smaller if need be, when one succeeds, and removed at the end."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / RESERVE
        self._is_needed = True
        self._keep()

    def release(self) -> None:
        """Gives the space back for good."""
        self._is_needed = False
        self._path.unlink(missing_ok=True)

    def write(self, what: str, write: Callable[[], None]) -> bool:
        """Calls ``write``; if it fails, once more with the space that was kept back. False, with a line in the log that
        names ``what``, if that fails too: the run goes on."""
        try:
            write()
        except (DataError, OSError):
            self._path.unlink(missing_ok=True)
        else:
            self._keep()
            return True
        try:
            write()
        except DataError as error:
            logger.error("%s is not written: %s", what, error)
            return False
        except OSError as error:
            if host_problem(error) is None:
                raise
            logger.error("%s is not written: %s (%s)", what, error, host_problem(error))
            return False
        return True

    def _keep(self) -> None:
        if not self._is_needed or self._path.exists():
            return
        with contextlib.suppress(OSError), self._path.open("wb") as file:
            for size in _SIZES_BYTES:
                with contextlib.suppress(OSError):  # the disk is nearly full
                    os.posix_fallocate(file.fileno(), 0, size)
                    return
            self._path.unlink()
