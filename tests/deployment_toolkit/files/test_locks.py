"""Files of locks, in a folder where another user may have put something at their names."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.locks import lock_holder, open_lock_file


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_something_else_at_the_name_of_a_lock_is_refused(kind: str, tmp_path: Path) -> None:
    path, victim = tmp_path / "lock", tmp_path / "victim"
    victim.write_text("kept")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(victim)
    else:
        path.mkdir()
    with pytest.raises(DataError, match="lock is not a plain file, as a lock has to be: .*remove it"):
        open_lock_file(path)
    assert victim.read_text() == "kept"


def test_holder_of_a_lock_is_known(tmp_path: Path) -> None:
    file = open_lock_file(tmp_path / "lock")
    try:
        assert lock_holder(file) is None
        fcntl.flock(file, fcntl.LOCK_EX)
        assert lock_holder(file) == os.getpid()
    finally:
        os.close(file)
