"""Users of the processes that root starts. A server or a client with root's rights would give them to whoever finds a
fault in it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import ProcessError
from deployment_toolkit.process import environment, run

_READ_ALL = "dac_read_search"  # read any file and enter any folder, without the right to change one
_ANSWERS_S = 30.0
_OTHERS_READ = 0o005


@dataclass(frozen=True)
class User:
    """A user and a group, as numbers."""

    uid: int
    gid: int

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"

    def prefix(self, *, reads_all: bool = False) -> list[str]:
        """Start of the command line for a process of this user, without root's rights; with ``reads_all`` it keeps the
        right to read every file.

        The process also ends when its parent dies; a change of user would disable that. Source: setpriv(1),
        capabilities(7).
        """
        setpriv = shutil.which("setpriv", path=os.defpath) or shutil.which("setpriv") or "setpriv"
        rights = [f"--inh-caps=+{_READ_ALL}", f"--ambient-caps=+{_READ_ALL}"] if reads_all else []
        user = [f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--no-new-privs", "--pdeathsig=keep"]
        return [setpriv, *user, *rights, "--"]

    def can_start(self) -> bool:
        """True if root can start a process of this user: not in a container that knows no other user, nor without
        setpriv."""
        with tempfile.TemporaryDirectory(prefix="user_") as folder:
            try:
                run([*self.prefix(), "true"], timeout_s=_ANSWERS_S, log_path=Path(folder) / "said", poll_s=0.01)
            except ProcessError:
                return False
        return True

    def obstacle(self, paths: Sequence[Path]) -> str | None:
        """Why a process of this user, which root is to start, could not do its work, None if it could: it has to read
        all of ``paths``, folders with everything in them but Python's caches, without which it can do."""
        argv = [*self.prefix(), "find", "-L", *map(str, paths), "-name", "__pycache__", "-prune", "-o"]
        argv += ["(", "!", "-readable", "-o", "-type", "d", "!", "-executable", ")", "!", "-type", "l"]
        env = environment(prepend={}) | {"LC_ALL": "C"}
        with tempfile.TemporaryDirectory(prefix="user_") as folder:
            try:
                log_path = Path(folder) / "found"
                found = run([*argv, "-print", "-quit"], env=env, timeout_s=_ANSWERS_S, log_path=log_path, poll_s=0.01)
            except ProcessError as error:
                closed = re.search(r"find: .(.+).: Permission denied", error.stderr)
                return _closed(closed[1]) if closed else str(error)
        return _closed(found.stdout.strip()) if found.stdout.strip() else None


NOBODY = User(65534, 65534)  # as in containers


def unprivileged(paths: Sequence[Path]) -> tuple[User | None, str]:
    """User for a process that this one starts and that has to read ``paths``, and the reason for it as a phrase: nobody
    if this process is root's and that can be, else None, which is this process's own user."""
    if os.geteuid() != 0:
        return None, "it runs as the user that started it"
    obstacle = _closing_mask() or NOBODY.obstacle(paths)
    if obstacle is not None:
        return None, f"it runs as root and not as nobody, because {obstacle}"
    return NOBODY, f"it runs as nobody ({NOBODY})"


def _closing_mask() -> str | None:
    """Reason against another user if files that this process makes later, such as models, are closed to others."""
    mask = os.umask(0o077)
    os.umask(mask)
    return (
        f"files that root makes are closed to others (umask {mask:04o}, 0022 opens them)"
        if mask & _OTHERS_READ
        else None
    )


def _closed(path: str) -> str:
    return f"{path} is closed to others (chmod -R o+rX opens it)"
