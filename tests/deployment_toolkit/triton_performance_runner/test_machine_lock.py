"""Measurements of all users of a machine take turns."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from pathlib import Path

import pytest

from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.machine import SHARED_MEMORY
from deployment_toolkit.process import child
from deployment_toolkit.triton_performance_runner import shared_memory
from deployment_toolkit.triton_performance_runner.shared_memory import machine_to_itself

NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_measurement_waits_for_one_of_another_user(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flock = shutil.which("flock")
    assert flock is not None
    caplog.set_level(logging.INFO)
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--pdeathsig=keep"]
    locked, ended = tmp_path / "locked", threading.Event()
    holding = ["sh", "-c", "echo locked && exec sleep 600"]

    def measure() -> None:
        with machine_to_itself():
            ended.set()

    with child([*user, "--", flock, str(SHARED_MEMORY), *holding], stdout=locked) as other:
        while not locked.read_text():
            assert other.wait(0.01) is None
        waiting = threading.Thread(target=measure)
        waiting.start()
        while not caplog.records:
            waiting.join(0.01)
        assert f"another measurement runs on this machine (process {other.pid} of user {NOBODY})" in caplog.text
        assert not ended.is_set()
    waiting.join(240)  # tests beside this one measure too
    assert ended.is_set()


def test_machine_without_shared_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path / "none")
    with pytest.raises(PerformanceError, match=r"none can't be opened \(No such file or directory\).*: mount it there"):
        machine_to_itself().__enter__()
