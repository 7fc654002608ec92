"""Files of locks, in a folder where another user may have put something at their names."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.files.locks import lock_holder, open_lock_file, sole_user


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


def test_second_user_of_a_folder_is_told_of_the_first(tmp_path: Path) -> None:
    with (
        sole_user(tmp_path, "another command writes here", "wait for it"),
        pytest.raises(UsageError, match=rf"another command writes here \(process {os.getpid()}\): wait for it"),
        sole_user(tmp_path, "another command writes here", "wait for it"),
    ):
        pass
    with sole_user(tmp_path, "another command writes here", "wait for it"):
        pass  # nobody else is there any more


def test_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*arguments: object) -> None:  # a mock: no such file system is here
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with sole_user(tmp_path, "another command writes here", "wait for it"):
        assert f"the file system of {tmp_path} has no locks: see to it" in caplog.text
