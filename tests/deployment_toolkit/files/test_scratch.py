"""Scratch names of processes that live, were killed, or are on another host."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.files import scratch
from deployment_toolkit.files.atomic import write_text

# Writes the folder ``argv[1]``; waits in the block, or is killed after the call of the method ``argv[2]``.
WRITER = """
import os, signal, sys
from pathlib import Path
from deployment_toolkit.files.atomic import replace_when_complete

def kill_after(method):
    def call(self, *arguments):
        method(self, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    return call

with replace_when_complete(Path(sys.argv[1]), replaces_all=True) as beside:
    beside.mkdir()
    for name in ("a", "b"):
        (beside / name).write_text("new")
    print("ready", flush=True)
    if len(sys.argv) == 2:
        sys.stdin.read()
    elif sys.argv[2] == "exec":
        os.execv("/bin/sh", ["sh", "-c", "echo replaced; read line"])
    else:
        setattr(Path, sys.argv[2], kill_after(getattr(Path, sys.argv[2])))
"""


@contextmanager
def writer(path: Path, *options: str, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that is in the block that writes a folder."""
    argv = [sys.executable, "-c", WRITER, str(path), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(argv, cwd=cwd, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def left_in(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*"))


def test_leftovers_of_a_killed_process_are_removed_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with writer(tmp_path / "model"):
        pass
    _, left = left_in(tmp_path)
    assert (left / "a").is_file()
    write_text(tmp_path / "other", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert caplog.messages == [f"removed what a killed process had left: {left}"]
    assert caplog.records[0].levelno == logging.WARNING


def test_folder_of_a_living_process_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with writer(tmp_path / "model") as living:
        write_text(tmp_path / "other", "text")
        assert len(left_in(tmp_path)) == 2
        living.communicate("")
    assert (tmp_path / "model" / "a").read_text() == "new"
    assert (left_in(tmp_path), caplog.messages) == ([], [])


def test_folder_stays_for_a_program_that_takes_the_place_of_its_process(tmp_path: Path) -> None:
    with writer(tmp_path / "model", "exec") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "replaced\n"
        write_text(tmp_path / "other", "text")
        assert any((path / "a").is_file() for path in left_in(tmp_path))
    write_text(tmp_path / "other", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize(("shared", "stays"), [(True, True), (False, False)])
def test_folder_of_another_host_stays(
    shared: bool, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writer(tmp_path / "model"):
        pass
    for left in left_in(tmp_path):
        left.rename(tmp_path / re.sub(r"\.[0-9a-f]{8}-", ".01234567-", left.name))
    monkeypatch.setattr(scratch, "is_of_one_kernel", lambda folder: not shared)
    write_text(tmp_path / "other", "text")
    assert len(left_in(tmp_path)) == 2 * stays
    (tmp_path / ".hidden").touch()
    scratch.remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "other"]


def test_nothing_stays_in_a_complete_folder_of_processes_that_live(tmp_path: Path) -> None:
    with writer(tmp_path / "model") as living:
        scratch.remove_unfinished(tmp_path)
        assert left_in(tmp_path) == []
        living.communicate("")
    assert living.returncode == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["beside", "filled"])
@pytest.mark.parametrize("method", ["replace", "rename"])
def test_replacement_in_which_a_process_was_killed_is_ended(place: str, method: str, tmp_path: Path) -> None:
    """Beside, the earlier folder is out of the way by then; in a filled folder its first entry, ``a``, is."""
    path = tmp_path / "model"
    path.mkdir()
    for name in ("a", "b"):
        (path / name).write_text("old")
    filled = place == "filled"
    with writer(Path() if filled else path, method, cwd=path if filled else tmp_path) as process:
        code = process.wait(10)
    moves = "rename" if filled else "replace"
    assert code == (-signal.SIGKILL if method == moves else 0)
    write_text((path if filled else tmp_path) / "other", "text")
    expected = "old" if filled and method == moves else "new"
    assert {name: (path / name).read_text() for name in ("a", "b")} == {"a": expected, "b": expected}
    assert left_in(tmp_path) == left_in(path) == []


def test_killed_while_new_entries_came_goes_on(tmp_path: Path) -> None:
    with writer(tmp_path / "model"):
        pass
    lock, _ = left_in(tmp_path)
    lock.write_text("model\0fills")
    lock.with_suffix(".emptied").mkdir()
    write_text(tmp_path / "other", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "other"]


def test_earlier_folder_is_still_there_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "earlier").write_text("earlier")
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target == tmp_path / "model" and "partial" in self.name:
            raise OSError(5, "Input/output error", str(self))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="Input/output error"), scratch.scratch_names(tmp_path, "model") as names:
        names.path("partial").mkdir()
        scratch.put_in_place(names)
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["model", "earlier"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_names_that_another_user_has_put_there_are_left_alone(tmp_path: Path) -> None:
    """Else root would move the other user's file where the lock says, or wait for the other end of a pipe."""
    shared, victim = tmp_path / "shared", tmp_path / "victim"
    shared.mkdir()
    stem = f".x.{scratch.kernel_id()}-1-1"
    for kind, text in (("lock", f"../{victim.name}\0"), ("partial", "planted"), ("replaced", "")):
        path = shared / f"{stem}.{kind}"
        path.write_text(text)
        path.chmod(0o666)
        os.chown(path, 65534, 65534)
    os.mkfifo(shared / f".y.{scratch.kernel_id()}-1-2.lock")
    write_text(shared / "result", "ours")
    assert (shared / "result").read_text() == "ours"
    assert not victim.exists() and (shared / f"{stem}.partial").exists()


def test_interrupt_at_any_line_leaves_nothing(tmp_path: Path) -> None:
    """The signal comes before each line of the module that one block runs."""
    number = lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != scratch.__file__:
            return None
        if event == "line":
            lines += 1
            if lines == number:
                signal.raise_signal(signal.SIGINT)
        return trace

    while number <= lines:
        number, lines = number + 1, 0
        folder = tmp_path / str(number)
        folder.mkdir()
        interrupted = False
        sys.settrace(trace)
        try:
            with scratch.scratch_names(folder, "name") as names:
                names.path("partial").write_text("new")
                scratch.put_in_place(names)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            sys.settrace(None)
        assert interrupted == (number <= lines)
        assert [path.name for path in folder.iterdir()] in ([], ["name"]), f"interrupted before line {number}"
    assert number > 20
