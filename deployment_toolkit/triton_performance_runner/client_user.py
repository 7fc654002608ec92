"""User of perf_analyzer's process: a server opens only its own user's shared memory, unless it is root."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass

from deployment_toolkit.errors import UsageError

_HIGHEST_ID = 2**32 - 2  # 2**32 - 1 means "no change" to the kernel


@dataclass(frozen=True)
class ClientUser:
    """A user and a group, as numbers."""

    uid: int
    gid: int

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

    @property
    def prefix(self) -> list[str]:
        """Start of the command line for a process of this user.

        The process keeps root's access to files, because program, input and report may be in folders that only root can
        read. It also ends when its parent dies; a change of user would disable that. Source: setpriv(1),
        capabilities(7).
        """
        user = [f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--pdeathsig=keep"]
        return ["setpriv", *user, "--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--"]

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"
