"""User of perf_analyzer's process: a server opens only its own user's shared memory, unless it is root."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import UsageError
from deployment_toolkit.users import NOBODY, User

logger = logging.getLogger("performance")

_HIGHEST_ID = 2**32 - 2  # 2**32 - 1 means "no change" to the kernel


@dataclass(frozen=True)
class ClientUser(User):
    """A user and a group, as numbers, for perf_analyzer."""

    @classmethod
    def parse(cls, text: str) -> ClientUser:
        """Parses ``UID:GID``. Raises UsageError for any other text."""
        ids = [int(part) for part in text.split(":")] if re.fullmatch("[0-9]{1,20}:[0-9]{1,20}", text) else []
        if not ids or max(ids) > _HIGHEST_ID:
            raise UsageError(
                f"--client-user {text}: write the numbers of a user and a group, for example 65534:65534 or $(id -u):"
                "$(id -g)"
            )
        return cls(*ids)

    def require_startable(self) -> None:
        """Raises UsageError if the caller is not root or has no setpriv."""
        if os.geteuid() != 0:
            raise UsageError(
                f"--client-user {self}: only root can start a process of another user, and this is user "
                f"{os.geteuid()}; leave it out where the server runs as you or as root, or call this as root"
            )
        if shutil.which("setpriv") is None:
            raise UsageError(f"--client-user {self} needs the program setpriv, which is not there: install util-linux")


def client_of(named: ClientUser | None, folder: Path, reads: Sequence[Path]) -> tuple[User, list[str]]:
    """User of perf_analyzer, and the start of its command line. The user is the named one, else nobody if root calls
    and that can be, else the caller. The process gets ``folder`` to write in and has to read ``reads``; if one of them
    is closed to it, it keeps the right to read all files."""
    caller = User(os.geteuid(), os.getegid())
    if named is None and caller.uid != 0:
        return caller, []
    if named is None and not NOBODY.can_start():
        logger.info("perf_analyzer runs as root, because root can start no process of nobody (%s) here", NOBODY)
        return caller, []
    user = named or NOBODY
    hand_over(folder, user)
    obstacle = user.obstacle([folder, *reads])
    if obstacle is not None:
        logger.info("perf_analyzer runs as %s and may read all files, because %s", user, obstacle)
    return user, user.prefix(reads_all=obstacle is not None)


def hand_over(folder: Path, user: User) -> None:
    """Gives a folder of this process, and what is in it, to the user of perf_analyzer."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user.uid, user.gid, follow_symlinks=False)
