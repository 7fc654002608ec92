"""Child processes: argv as a list, own process group, both output streams kept, nothing left running. The only user
of ``subprocess``."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from deployment_toolkit.endings.interrupts import interrupts_held, repeated_interrupts
from deployment_toolkit.endings.out_of_memory import oom_kills
from deployment_toolkit.errors import ProcessError

KILLED = f"was killed by {signal.SIGKILL.name}"  # how a child ended that ran out of memory

_PR_SET_PDEATHSIG = 1
_LAST_LINES = 15
_GRACE_S = 15.0
_PATIENCE_S = 5.0
_HURRY_S = 4.0
_MOST_PATIENT = 2  # further interrupts, of which the last asks for the end at once
_LOOK_S = 0.1
# The parent may have died before prctl was called.
_UNLESS_ORPHANED = 'test "$PPID" = "$0" && exec "$@"'


@dataclass(frozen=True)
class Completed:
    """Output of a child that exited with 0."""

    argv: tuple[str, ...]
    stdout: str
    stderr: str
    seconds: float


class Child:
    """A running child in its own process group; the kernel ends it if this process dies first."""

    def __init__(
        self, argv: Sequence[str | Path], *, env: Mapping[str, str] | None, stdout: Path, stderr: Path
    ) -> None:
        self.argv = tuple(str(part) for part in argv)
        self._paths = (stdout, stderr)
        self._oom_kills = oom_kills()
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(stdout.open("ab"))
            err = out if stderr == stdout else stack.enter_context(stderr.open("ab"))
            self._starts = (out.tell(), err.tell())  # a log may hold the output of an earlier child
            started = stack.enter_context(contextlib.ExitStack())
            try:
                with interrupts_held():  # of a process whose id is not known yet nobody could end it
                    self._popen = subprocess.Popen(
                        _guarded(self.argv, env),
                        env=None if env is None else dict(env),
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=err,
                        start_new_session=True,
                    )
                    started.callback(self.stop)
                started.pop_all()
            except OSError as error:
                raise ProcessError(
                    f"{self.argv[0]} can't be started: {error.strerror}; is it installed?", returncode=None
                ) from error

    @property
    def pid(self) -> int:
        """Process id of the child, also the id of its process group."""
        return self._popen.pid

    def poll(self) -> int | None:
        """Exit code, or None while the child runs."""
        return self._popen.poll()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Exit code, or None if the child still runs after ``timeout_s``."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def how_it_ended(self) -> str:
        """Phrase for the end of a child that has ended."""
        before, now = self._oom_kills, oom_kills()
        return how_it_ended(self.poll() or 0, by_oom_killer=before is not None and now is not None and now > before)

    def output(self) -> tuple[str, str]:
        """Output of the child so far: stdout, stderr."""
        out, err = (_text_from(path, start) for path, start in zip(self._paths, self._starts, strict=True))
        return out, err

    def stop(self, *, first: signal.Signals = signal.SIGTERM, grace_s: float = _GRACE_S) -> None:
        """Ends the whole group: signal ``first``, after ``grace_s`` SIGTERM, then SIGKILL. Returns when it is gone. A
        second Ctrl-C sends the signals again and shortens the wait, a third sends SIGKILL at once. So does any error,
        such as an interrupt in a program that does not count them."""
        patience_s = {first: grace_s}
        for number in (signal.SIGTERM, signal.SIGKILL):
            patience_s.setdefault(number, _PATIENCE_S)
        try:
            for number in patience_s:
                if self.poll() is None and (number == signal.SIGKILL or repeated_interrupts() < _MOST_PATIENT):
                    self._signal(number)
                    self._wait_patiently(number, patience_s[number])
        finally:
            self._signal(signal.SIGKILL)  # for children that the leader left in its group

    def _wait_patiently(self, number: signal.Signals, patience_s: float) -> None:
        """Returns when the child has ended or patience is over: earlier if the user is in a hurry."""
        deadline = time.monotonic() + patience_s
        told = 0
        while (left_s := deadline - time.monotonic()) > 0 and self.wait(min(_LOOK_S, left_s)) is None:
            hurry = repeated_interrupts()
            if hurry >= _MOST_PATIENT and number != signal.SIGKILL:
                return
            if hurry > told:
                told = hurry
                deadline = min(deadline, time.monotonic() + _HURRY_S)
                self._signal(number)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


@contextlib.contextmanager
def child(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    stdout: Path,
    stderr: Path | None = None,
    grace_s: float = _GRACE_S,
) -> Iterator[Child]:
    """A child that is ended when the block is left, also after an error. ``stderr`` defaults to the file of stdout;
    ``grace_s`` is the time from SIGTERM to SIGKILL."""
    process = Child(argv, env=env, stdout=stdout, stderr=stderr or stdout)
    try:
        yield process
    finally:
        process.stop(grace_s=grace_s)


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    log_path: Path,
    watch: Callable[[Child], None] | None = None,
    stop_signal: signal.Signals = signal.SIGINT,
    poll_s: float = 0.2,
) -> Completed:
    """Runs a child to its end; stdout goes to ``log_path``, stderr to ``log_path`` with the suffix ``.err``.

    ``watch`` is called every ``poll_s`` while the child runs. Raises ProcessError, with the last lines of output, if
    the child's exit code is not 0 or it still runs after ``timeout_s``. If this call is interrupted, the child is
    stopped first.
    """
    stderr_path = log_path.with_name(log_path.name + ".err")
    process = Child(argv, env=env, stdout=log_path, stderr=stderr_path)
    started = time.monotonic()
    try:
        while process.wait(poll_s) is None:
            if watch is not None:
                watch(process)
            if timeout_s is not None and time.monotonic() - started > timeout_s:
                process.stop(first=stop_signal)
                out, err = process.output()
                raise ProcessError(
                    f"{process.argv[0]} did not finish in {timeout_s:g} s: {last_lines(err or out)}",
                    returncode=None,
                    stdout=out,
                    stderr=err,
                )
    finally:
        process.stop(first=stop_signal)
    out, err = process.output()
    code = process.poll()
    if code != 0:
        ending = process.how_it_ended()
        raise ProcessError(
            f"{shlex.join(process.argv[:3])} … {ending}: {last_lines(err or out)}",
            returncode=code,
            ending=ending,
            stdout=out,
            stderr=err,
        )
    return Completed(process.argv, out, err, time.monotonic() - started)


@contextlib.contextmanager
def stderr_without(pattern: str) -> Iterator[None]:
    """Within the block, lines of this process's stderr that match the extended regular expression are dropped, also
    those that a C library writes. The filter is a child, so that the last words of a crash get through; if it can't be
    started, all lines do."""
    with contextlib.ExitStack() as stack:
        try:
            kept = os.dup(2)
            stack.callback(os.close, kept)
            grep = subprocess.Popen(
                ["grep", "--line-buffered", "-Ev", pattern],
                stdin=subprocess.PIPE,
                stdout=kept,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            yield
            return
        assert grep.stdin is not None
        os.dup2(grep.stdin.fileno(), 2)
        grep.stdin.close()
        try:
            yield
        finally:
            os.dup2(kept, 2)
            with contextlib.suppress(subprocess.TimeoutExpired):  # another child may hold the pipe
                grep.wait(_PATIENCE_S)


def environment(
    base: Mapping[str, str] | None = None, *, prepend: Mapping[str, Sequence[str | Path]]
) -> dict[str, str]:
    """Copy of ``base`` (default: this process's environment) for a child; ``prepend`` puts folders before a variable's
    search path."""
    copy = dict(os.environ if base is None else base)
    for name, folders in prepend.items():
        copy[name] = os.pathsep.join([*map(str, folders), *filter(None, [copy.get(name)])])
    return copy


def how_it_ended(code: int, *, by_oom_killer: bool = False) -> str:
    """Phrase for the exit code of a child, which is negative after a signal, or 128 + the signal from a container.
    ``by_oom_killer``: the kernel has counted a kill for lack of memory since the child was started."""
    if code == 128 + signal.SIGKILL:
        return f"exited with {code}, as a container does whose program {how_it_ended(-signal.SIGKILL)}"
    if code >= 0:
        return f"exited with {code}"
    if -code == signal.SIGKILL:
        return f"{KILLED}, {'by' if by_oom_killer else 'usually by'} the kernel's OOM killer when memory runs out"
    return f"was killed by {signal.Signals(-code).name if -code in set(signal.Signals) else f'signal {-code}'}"


def last_lines(text: str, count: int = _LAST_LINES) -> str:
    """Last lines of a log that are not empty, joined for a one-line message."""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return " | ".join(lines[-count:]) if lines else "(it printed nothing)"


def _text_from(path: Path, start: int) -> str:
    with path.open(errors="replace") as file:
        file.seek(start)
        return file.read()


def _guarded(argv: Sequence[str], env: Mapping[str, str] | None) -> list[str]:
    """Command that runs ``argv`` with Ctrl-C enabled and ends it when the thread that started it dies. A script that
    starts this process in its background makes it ignore Ctrl-C.

    Other programs do this, not Python code between fork and exec: for such code Python calls every library's fork
    handlers, and gRPC's (1.85, while it connects) made one child in a hundred abort. Raises ProcessError.
    """
    path = os.environ.get("PATH") if env is None else env.get("PATH")
    if shutil.which(argv[0], path=path) is None:
        raise ProcessError(f"{argv[0]} can't be started: no such program; is it installed?", returncode=None)
    env_program, setpriv, shell = (_system_program(name) for name in ("env", "setpriv", "sh"))
    interruptible = [env_program, "--default-signal=INT"]
    mortal = [setpriv, "--pdeathsig=TERM", "--", shell, "-c", _UNLESS_ORPHANED, str(os.getpid())]
    return [*interruptible, *mortal, *argv]


@functools.cache
def _system_program(name: str) -> str:
    """Path of a system program, independent of PATH. Raises ProcessError if it is missing."""
    found = shutil.which(name, path=os.defpath) or shutil.which(name)
    if found is None:
        raise ProcessError(
            f"no process can be started without the program {name}: install coreutils and util-linux", returncode=None
        )
    return found


def become(argv: Sequence[str | Path], *, env: Mapping[str, str]) -> NoReturn:
    """Replaces this process by another program (exec); the kernel ends it when the parent dies."""
    die_with_parent()
    command = [str(part) for part in argv]
    os.execve(command[0], command, dict(env))


def die_with_parent() -> None:
    """Makes the kernel send this process SIGTERM when the thread that started it dies."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent died before the call of prctl
        os.kill(os.getpid(), signal.SIGTERM)
