"""Key files: one per server address, readable by its owner only, in memory, while the server runs.

A client that knows an address finds the key in two folders. The first is named by the variable TRITON_KEY_FOLDER, for
servers of other users or hosts. The second is the user's own folder; starting a server puts the key there. A file is
named by the address, ``host:port``, and holds one line, the header.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from deployment_toolkit.errors import ServerError
from deployment_toolkit.machine import SHARED_MEMORY
from deployment_toolkit.process import environment
from deployment_toolkit.server_access.key import ServerKey
from deployment_toolkit.server_access.url import ServerUrl

logger = logging.getLogger("triton")

FOLDER_VARIABLE = "TRITON_KEY_FOLDER"

_MOST_BYTES = 4096


def own_folder() -> Path:
    """Folder for the keys of the servers that this user starts; scripts/docker/interactive.sh sees it too. Where
    another user has taken its name, it has a longer one."""
    usual = SHARED_MEMORY / f"wide-deep-keys-{os.geteuid()}"
    if _is_ours(usual):
        return usual
    return next(filter(_is_ours, sorted(SHARED_MEMORY.glob(f"{usual.name}-*"))), usual)


def find_key(url: ServerUrl, env: Mapping[str, str] | None = None) -> tuple[ServerUrl, ServerKey] | None:
    """Key of the server at ``url``, with the address that it may be sent to; None if there is no key.

    ``localhost`` becomes 127.0.0.1: another user may listen at the same port of another loopback address. With TLS it
    stays, since the server's certificate proves who listens. ``env`` is by
    default this process's environment. Raises ServerError if a key file in TRITON_KEY_FOLDER could be another user's,
    or holds no key.
    """
    asked, url = url if url.secure else url.pinned, url.pinned
    folder = environment(env, prepend={}).get(FOLDER_VARIABLE)
    if folder:
        path = Path(folder) / url.address
        with _opened(path) as file:
            if file is not None:
                return asked, ServerKey.parse(_text(file), str(path))
            if path.exists():
                raise ServerError(f"{path} is not this user's alone, so it is not trusted: chown and chmod 600 it")
    path = own_folder() / url.address
    if not _is_ours(own_folder()):
        return None
    with _opened(path) as file:
        # If no process holds the lock, the process was killed, with its server.
        return None if file is None or _lock(file) else (asked, ServerKey.parse(_text(file), str(path)))


@contextlib.contextmanager
def kept_key(key: ServerKey, urls: Sequence[ServerUrl], *, inherited: bool = False) -> Iterator[Path]:
    """Keeps the key of the server at ``urls`` in files until the block is left; yields the path of the first file. With
    ``inherited``, the files stay as long as the program runs that this process becomes.

    Raises ServerError if the user's folder can't be made.
    """
    folder = _own_folder_made()
    paths = [folder / url.pinned.address for url in urls]
    with contextlib.ExitStack() as stack:
        with _alone_in(folder):
            _remove_left_files(folder)
            for path in paths:
                stack.enter_context(_kept(path, key, inherited))
        yield paths[0]


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Lock of the folder: one process at a time removes left files and adds its own."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


@contextlib.contextmanager
def _kept(path: Path, key: ServerKey, inherited: bool) -> Iterator[None]:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.set_inheritable(file, inherited)
        os.write(file, f"{key.line}\n".encode())
        _lock(file)  # held until this process ends, also if it is killed
        beside.replace(path)
        yield
    finally:
        with contextlib.suppress(OSError):
            if os.path.samestat(path.lstat(), os.fstat(file)):  # not if a later server has replaced the file
                path.unlink()
        os.close(file)


def _own_folder_made() -> Path:
    folder = own_folder()
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not _is_ours(folder):
            return _other_folder_made(folder)
    except OSError as error:
        raise ServerError(f"{folder} can't be made ({error.strerror}), for the server's key: let this user") from error
    return folder


def _other_folder_made(taken: Path) -> Path:
    logger.warning("%s is not this user's alone, so no key is kept there: find out who made it, and remove it", taken)
    made = Path(tempfile.mkdtemp(prefix=f"{taken.name}-", dir=SHARED_MEMORY))
    folder = own_folder()
    if folder != made:  # another process has made one at the same moment
        made.rmdir()
    return folder


def _remove_left_files(folder: Path) -> None:
    for path in folder.iterdir():
        with _opened(path) as file:
            if file is not None and _lock(file):
                path.unlink(missing_ok=True)


def _is_ours(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and _is_private(found)
    return False


def _is_private(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """Opens a file of this user that nobody else may read or change; None for anything else."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    try:
        found = os.fstat(file)
        yield file if stat.S_ISREG(found.st_mode) and _is_private(found) else None
    finally:
        os.close(file)


def _text(file: int) -> str:
    return os.read(file, _MOST_BYTES).decode(errors="replace")


def _lock(file: int) -> bool:
    """Tries to lock the file; False if the process that keeps the key holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
