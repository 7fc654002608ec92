from __future__ import annotations

import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT

CLEANS_UP = """if True:
    import sys, time
    from pathlib import Path
    from deployment_toolkit.options.params import run_entry_point

    def main(argv):
        try:
            try:
                print("begins", flush=True)
                time.sleep(60)
            finally:
                print("cleans up", flush=True)
                time.sleep(1)
                raise ValueError  # as when a connection is lost meanwhile
        finally:
            time.sleep(0.5)
            Path(argv[0]).write_text("all of it")
            raise KeyboardInterrupt

    run_entry_point(main)"""
STOPS_A_CHILD = """if True:
    import sys, time
    from pathlib import Path
    from deployment_toolkit.options.params import run_entry_point
    from deployment_toolkit.process import run

    DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('begins'); time.sleep(600)"

    def main(argv):
        watch = lambda child: "begins" in child.output()[0] and print("begins", flush=True)
        run([sys.executable, "-u", "-c", DEAF], log_path=Path(argv[0]), watch=watch)

    run_entry_point(main)"""


def _started(program: str, path: Path, *before: str) -> subprocess.Popen[str]:
    # The tests themselves may have been started with nohup.
    command = ["env", "--default-signal=HUP", *before, sys.executable, "-c", program, str(path)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_further_interrupts_leave_nothing_half_done(tmp_path: Path, number: signal.Signals) -> None:
    with _started(CLEANS_UP, tmp_path / "made") as process:
        assert process.stdout is not None and process.stdout.readline() == "begins\n"
        process.send_signal(number)
        sent = time.monotonic()
        assert process.stdout.readline() == "cleans up\n" and time.monotonic() - sent < 30, "at once"
        for _ in range(3):
            process.send_signal(number)
            time.sleep(0.1)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (130, "interrupted\n")
    assert (tmp_path / "made").read_text() == "all of it"


def test_program_of_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    with _started(CLEANS_UP, tmp_path / "made", "nohup") as process:
        assert process.stdout is not None and process.stdout.readline() == "begins\n"
        process.send_signal(signal.SIGHUP)
        assert select.select([process.stdout], [], [], 0.5)[0] == [], "it goes on"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_further_interrupts_hurry_the_end_of_a_child(tmp_path: Path) -> None:
    """It ignores Ctrl-C, and would be given 15 s."""
    with _started(STOPS_A_CHILD, tmp_path / "log") as process:
        assert process.stdout is not None and process.stdout.readline() == "begins\n"
        started = time.monotonic()
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert process.wait(30) == 130
        assert time.monotonic() - started < 10
