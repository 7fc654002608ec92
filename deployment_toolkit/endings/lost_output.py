"""Output that nobody takes any more: a closed terminal, a pipe whose reader has ended (``| head``), a full disk."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from typing import TextIO

from deployment_toolkit.endings.interrupts import interrupt_program

_GONE = (errno.EPIPE, errno.EIO)  # a pipe, a terminal
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_output(stream: TextIO, text: str, end: str = "\n") -> None:
    """Writes a text for the user. If the reader is gone, this and all later texts are dropped and the program ends as
    after Ctrl-C; on a full disk they are dropped, and the program goes on."""
    try:
        print(text, end=end, file=stream, flush=True)
    except OSError as error:
        if error.errno not in (*_GONE, *_FULL):
            raise
        drop_output(stream)
        if error.errno in _GONE:
            interrupt_program()


def lost_stdout(error: BaseException) -> bool:
    """True if the error is that stdout has no reader any more: a closed connection gives the same error."""
    if not isinstance(error, OSError) or error.errno not in _GONE:
        return False
    with contextlib.suppress(OSError, ValueError):
        looking = select.poll()
        looking.register(sys.stdout.fileno(), 0)  # these two come without being asked for
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in looking.poll(0))
    return False


def drop_output(stream: TextIO) -> None:
    """Sends what the stream still holds, and all that comes, to /dev/null."""
    with contextlib.suppress(OSError, io.UnsupportedOperation):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def settle_outputs() -> None:
    """Writes what stdout and stderr still hold. What nobody takes is dropped; else Python would end with code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            drop_output(stream)
