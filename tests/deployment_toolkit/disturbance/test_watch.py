from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployment_toolkit.disturbance import watch
from deployment_toolkit.disturbance.speed import speed_ms
from deployment_toolkit.disturbance.watch import Disturbance, Watch
from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.process import Child, child
from deployment_toolkit.results.performance import DISTURBED, OTHER_CORES, SPEED_AFTER, SPEED_BEFORE, STEAL_CORES
from deployment_toolkit.server_access.url import Scheme, ServerUrl

ELSEWHERE = ServerUrl(Scheme.HTTP, "192.0.2.1", 8000)  # an address for documentation, of no host
IDLE, BURNING = "import time; time.sleep(600)", "while True: pass"


@contextlib.contextmanager
def running(code: str, folder: Path) -> Iterator[Child]:
    with child([sys.executable, "-c", code], stdout=folder / "log") as process:
        yield process


def test_a_burner_is_a_disturbance_unless_it_belongs_to_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two watches see the same second: to one the burner is the client, to the other it is somebody else. So whatever
    else this machine does is in both."""
    monkeypatch.setattr(watch, "speed_ms", lambda: 8.0)  # so that both watches begin and end together
    with running(IDLE, tmp_path) as idle, running(BURNING, tmp_path) as burner:
        its_own, anothers = Watch(ELSEWHERE, client=burner.pid), Watch(ELSEWHERE, client=idle.pid)
        with its_own.measurement() as mine, anothers.measurement() as theirs:
            process, started = psutil.Process(burner.pid), time.monotonic()
            before = process.cpu_times()
            while process.cpu_times().user - before.user < 0.5:
                assert time.monotonic() - started < 60
                time.sleep(0.02)
            used = (process.cpu_times().user - before.user) / (time.monotonic() - started)
    without, with_it = mine.disturbance.other_cores, theirs.disturbance.other_cores
    assert without is not None and with_it is not None
    assert with_it - without > 0.6 * used, (used, without, with_it)
    assert mine.disturbance.cores == len(psutil.Process().cpu_affinity() or ())


def test_a_watch_of_a_server_that_is_not_found_knows_nothing_of_others() -> None:
    nobody_listens = ServerUrl(Scheme.GRPC, LOOPBACK, 1)
    with Watch(nobody_listens).measurement() as seen:
        pass
    assert seen.disturbance.other_cores is None and seen.disturbance.steal_cores is not None
    assert seen.disturbance.cells[OTHER_CORES] is None


def test_waiting_for_a_core_is_not_slowness(tmp_path: Path) -> None:
    usual, allowed = speed_ms(), os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})  # the burners, too
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(running(BURNING, tmp_path))
            crowded = speed_ms()
    finally:
        os.sched_setaffinity(0, allowed)
    assert 0.5 < crowded < 2.5 * usual


@pytest.mark.parametrize(
    ("other", "steal", "before", "after", "disturbed"),
    [
        (0.3, 0.0, 10.0, 10.0, False),
        (0.3, 0.15, 10.0, 10.0, True),
        (0.5, 0.0, 10.0, 10.0, True),
        (0.0, 0.0, 10.0, 11.9, False),
        (0.0, 0.0, 10.0, 12.1, True),
        (0.0, 0.0, 12.1, 10.0, True),
        (None, None, 10.0, 10.0, False),
        (None, 0.5, 10.0, 10.0, True),
    ],
)
def test_a_tenth_of_four_cores_or_a_fifth_of_the_speed_is_a_disturbance(
    other: float | None, steal: float | None, before: float, after: float, disturbed: bool
) -> None:
    cells = Disturbance(4, other, steal, before, after).cells
    assert cells == {
        OTHER_CORES: other,
        STEAL_CORES: steal,
        SPEED_BEFORE: before,
        SPEED_AFTER: after,
        DISTURBED: disturbed,
    }
