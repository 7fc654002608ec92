from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployment_toolkit.errors import ProcessError
from deployment_toolkit.process import Child, child, environment, run

PATIENCE_S = 20.0
SLEEP = "import time; time.sleep(1000)"


def ended(pid: int) -> bool:
    """True if a process, child or not, ends soon; it is killed otherwise."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        in_time = bool(select.select([descriptor], [], [], PATIENCE_S)[0])
        if not in_time:
            os.kill(pid, signal.SIGKILL)
        return in_time
    finally:
        os.close(descriptor)


def first_line(path: Path, process: Child) -> str:
    """First line of the output of a running child. Waits for the child, not for a fixed time."""
    while not path.exists() or "\n" not in path.read_text():
        assert process.wait(0.02) is None, process.output()
    return path.read_text().split("\n")[0]


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_run_keeps_both_streams_and_the_exit_code(tmp_path: Path) -> None:
    text = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(int(sys.argv[1]))"
    completed = run([*python(text), "0"], log_path=tmp_path / "a.log")
    assert (completed.stdout, completed.stderr) == ("out\n", "err\n")
    with pytest.raises(ProcessError, match="exited with 3: err") as raised:
        run([*python(text), "3"], log_path=tmp_path / "a.log")
    error = raised.value
    assert (error.returncode, error.stdout, error.stderr) == (3, "out\n", "err\n")  # its own, not the first child's
    assert (tmp_path / "a.log").read_text() == "out\nout\n"
    assert (tmp_path / "a.log.err").read_text() == "err\nerr\n"


def test_arguments_and_environment_reach_the_program_unchanged(tmp_path: Path) -> None:
    text = "import os, sys; print(sys.argv[1:], os.environ['A'], 'B' in os.environ)"
    arguments = ["two words", "a=b", "$HOME", "*"]
    env = environment({"A": "old"}, prepend={"A": [tmp_path]})
    assert run([*python(text), *arguments], env=env, log_path=tmp_path / "log").stdout == (
        f"{arguments} {tmp_path}:old False\n"
    )


def test_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="no-such-program can't be started: .*is it installed"):
        run(["no-such-program"], log_path=tmp_path / "log")


def test_timeout_ends_the_process_group_and_keeps_the_output(tmp_path: Path) -> None:
    text = f"""if True:
        import os, signal, sys
        signal.signal(signal.SIGINT, lambda *_: sys.exit("stopped"))
        if os.fork() == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            print(os.getpid(), flush=True)
        {SLEEP}"""
    with pytest.raises(ProcessError, match=r"did not finish in 1\.5 s: stopped") as raised:
        run(python(text), log_path=tmp_path / "log", timeout_s=1.5)
    assert raised.value.returncode is None
    assert raised.value.stderr == "stopped\n"  # the leader was asked first
    assert ended(int(raised.value.stdout))


def test_interrupt_stops_the_child_first(tmp_path: Path) -> None:
    text = f"""if True:
        import signal, sys
        signal.signal(signal.SIGINT, lambda *_: sys.exit("stopped"))
        print("ready", flush=True)
        {SLEEP}"""

    def interrupt(process: Child) -> None:
        if process.output()[0]:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(python(text), log_path=tmp_path / "log", watch=interrupt, poll_s=0.05)
    assert (tmp_path / "log.err").read_text() == "stopped\n"


def test_child_can_be_interrupted_even_if_its_parent_ignores_it(tmp_path: Path) -> None:
    text = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run(python(text), log_path=tmp_path / "log").stdout == "True\n"
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_during_the_start_of_a_child_is_not_lost(tmp_path: Path, number: signal.Signals) -> None:
    text = f"""if True:
        import os, signal, subprocess, sys
        from pathlib import Path
        from deployment_toolkit.process import run
        signal.signal(signal.{number.name}, signal.default_int_handler)
        fork_exec = subprocess._fork_exec
        def fork_exec_and_interrupt(*arguments):
            pid = fork_exec(*arguments)
            signal.raise_signal(signal.{number.name})
            return pid
        subprocess._fork_exec = fork_exec_and_interrupt
        try:
            run([sys.executable, "-c", "import time; time.sleep(1000)"], log_path=Path(sys.argv[1]))
        except KeyboardInterrupt:
            children = Path(f"/proc/self/task/{{os.getpid()}}/children").read_text()
            print("interrupted", children or "and nothing is left")"""
    done = run([*python(text), str(tmp_path / "inner")], log_path=tmp_path / "log", timeout_s=PATIENCE_S)
    assert (done.stdout, done.stderr) == ("interrupted and nothing is left\n", "")


def test_fork_handlers_of_libraries_are_not_called(tmp_path: Path) -> None:
    """gRPC's fork handlers sometimes abort a child."""
    text = """if True:
        import os, sys
        from pathlib import Path
        from deployment_toolkit.process import run
        os.register_at_fork(after_in_child=os.abort)
        print(run(["echo", "started"], log_path=Path(sys.argv[1])).stdout)"""
    done = run([*python(text), str(tmp_path / "inner")], log_path=tmp_path / "log", timeout_s=PATIENCE_S)
    assert done.stdout.strip() == "started"


@contextlib.contextmanager
def interrupt_soon() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_second_interrupt_kills_the_child(tmp_path: Path) -> None:
    deaf = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print('ready', flush=True); {SLEEP}"
    process = Child(python(deaf), env=None, stdout=tmp_path / "log", stderr=tmp_path / "log")
    first_line(tmp_path / "log", process)
    with pytest.raises(KeyboardInterrupt), interrupt_soon():
        process.stop(first=signal.SIGINT, grace_s=PATIENCE_S)
    assert process.wait(PATIENCE_S) == -signal.SIGKILL


def test_child_that_ignores_signals_is_killed_at_the_end_of_the_block(tmp_path: Path) -> None:
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); {SLEEP}"
    process = Child(python(deaf), env=None, stdout=tmp_path / "log", stderr=tmp_path / "log")
    first_line(tmp_path / "log", process)
    process.stop(first=signal.SIGTERM, grace_s=0.1)
    assert process.poll() == -signal.SIGKILL
    with pytest.raises(ZeroDivisionError), child(python(SLEEP), stdout=tmp_path / "log") as sleeper:
        raise ZeroDivisionError
    assert sleeper.poll() == -signal.SIGTERM


def test_child_ends_with_its_parent(tmp_path: Path) -> None:
    text = f"""if True:
        from pathlib import Path
        from deployment_toolkit.process import child
        with child({python(SLEEP)!r}, stdout=Path({str(tmp_path / "inner")!r})) as sleeper:
            print(sleeper.pid, flush=True)
            {SLEEP}"""
    with child(python(text), stdout=tmp_path / "log") as parent:
        pid = int(first_line(tmp_path / "log", parent))
        os.kill(parent.pid, signal.SIGKILL)  # it can't clean up
        assert parent.wait(PATIENCE_S) == -signal.SIGKILL
        assert ended(pid)
