from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from deployment_toolkit.disturbance.counters import core_times, cores_of, tree_seconds
from deployment_toolkit.process import child

# user nice system idle iowait irq softirq steal guest guest_nice, in hundredths of a second
STAT = """cpu  9100 800 700 600 500 0 400 300 200 100
cpu0 1000 20 300 4000 50 {irq} 60 7 0 0
cpu1 2000 10 100 4000 50 0 40 3 0 0
cpu2 6100 770 300 4000 50 0 300 290 200 100
intr 1 2 3
"""
# A process that has used 0.2 s, and its child that used 0.3 s and has ended.
FAMILY = """
import os, sys, time
pid = os.fork()
while time.process_time() < (0.2 if pid else 0.3):
    pass
if pid:
    os.waitpid(pid, 0)
    open(sys.argv[1], "w")
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def hundredths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_CLK_TCK": 100}.__getitem__)


def test_times_of_the_chosen_cores_are_those_of_processes_and_steal() -> None:
    times = core_times({0, 1}, STAT.format(irq=0))
    assert times is not None and times.steal_s == pytest.approx(0.10)
    assert times.processes_s == pytest.approx(34.3 + 1.0), "interrupts are in the times of the processes"
    measured = core_times({0, 1}, STAT.format(irq=200))
    assert measured is not None and measured.processes_s == pytest.approx(34.3), "this kernel takes them out"


def test_a_kernel_that_shows_no_times_leaves_them_unknown() -> None:
    assert core_times({0, 7}, STAT.format(irq=0)) is None
    assert core_times({0}, "cpu  0 0 0 0\ncpu0 0 0 0 0\n") is None
    assert core_times({0}, "cpu0 0 0 0 0 0 0 0 0 0 0\n") is None


def test_a_tree_has_the_time_of_children_that_have_ended_too(tmp_path: Path) -> None:
    with child([sys.executable, "-c", FAMILY, str(tmp_path / "ready")], stdout=tmp_path / "log") as process:
        while not (tmp_path / "ready").exists():
            assert process.wait(0.02) is None, process.output()
        assert 0.45 < tree_seconds({process.pid}) == tree_seconds({process.pid, process.pid}) < 5
    assert tree_seconds({process.pid}) == 0


def test_cores_are_those_on_which_the_processes_may_run() -> None:
    assert cores_of({os.getpid()}) == frozenset(psutil.Process().cpu_affinity() or ())
    assert cores_of(()) == cores_of({os.getpid()})
