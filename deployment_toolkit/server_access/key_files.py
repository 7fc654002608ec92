"""Key files: one for each address, for its owner's eyes only, in memory, while the server runs.

A client that knows an address finds the key by itself: in the folder of the variable TRITON_KEY_FOLDER, for servers of
somebody else or elsewhere, then in the user's own, where what starts a server puts it. A file is named by the address,
``host:port``, and holds one line, the header.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from deployment_toolkit.errors import ServerError
from deployment_toolkit.machine import SHARED_MEMORY
from deployment_toolkit.process import environment
from deployment_toolkit.server_access.key import ServerKey
from deployment_toolkit.server_access.url import ServerUrl

FOLDER_VARIABLE = "TRITON_KEY_FOLDER"

_MOST_BYTES = 4096


def own_folder() -> Path:
    """This user's folder for the keys of the servers that it starts, which scripts/docker/interactive.sh sees too."""
    return SHARED_MEMORY / f"wide-deep-keys-{os.geteuid()}"


def find_key(url: ServerUrl, env: Mapping[str, str] | None = None) -> tuple[ServerUrl, ServerKey] | None:
    """The key of the server at ``url``, with the address that it may be sent to; None if there is no key.

    ``localhost`` is 127.0.0.1 then: another user may listen at the same port of another loopback address. ``env`` is by
    default this process's environment. Raises ServerError if a key of the folder that it names could be another
    user's, or is none.
    """
    url = url.pinned
    folder = environment(env, prepend={}).get(FOLDER_VARIABLE)
    if folder:
        path = Path(folder) / url.address
        with _opened(path) as file:
            if file is not None:
                return url, ServerKey.parse(_text(file), str(path))
            if path.exists():
                raise ServerError(f"{path} is not this user's alone, so it is not trusted: chown and chmod 600 it")
    path = own_folder() / url.address
    if not _is_ours(own_folder()):
        return None
    with _opened(path) as file:
        # What no process holds was left by one that was killed, with its server.
        return None if file is None or _lock(file) else (url, ServerKey.parse(_text(file), str(path)))


@contextlib.contextmanager
def kept_key(key: ServerKey, urls: Sequence[ServerUrl], *, inherited: bool = False) -> Iterator[Path]:
    """The key of the server at ``urls`` is in files, to be found, until the block is left: the path of the first. With
    ``inherited``, as long as a program runs that this process becomes.

    Raises ServerError if the user's folder is another user's.
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
    """One process at a time looks for what was left and puts its own there."""
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
        _lock(file)  # until this process ends, however it does
        beside.replace(path)
        yield
    finally:
        with contextlib.suppress(OSError):
            if os.path.samestat(path.lstat(), os.fstat(file)):  # a later server's is its own
                path.unlink()
        os.close(file)


def _own_folder_made() -> Path:
    folder = own_folder()
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise ServerError(f"{folder} can't be made ({error.strerror}), for the server's key: let this user") from error
    if not _is_ours(folder):
        raise ServerError(
            f"{folder} is not this user's alone, so no key can be kept there: remove it, as its owner or as root"
        )
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
    """A file of this user's that nobody else may read or change; None for anything else."""
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
    """Whether the file could be locked: whoever keeps a key has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
