from __future__ import annotations

import os
import sys
from pathlib import Path

from deployment_toolkit.process import child
from deployment_toolkit.process_memory import peak_rss_bytes, tree_memory

MIB = 2**20
PARENT = """
import mmap, os, sys, time
from pathlib import Path
shared = mmap.mmap(-1, 64 << 20)
shared.write(b"x" * (64 << 20))
if os.fork() == 0:
    sum(shared[:64 << 20:4096])
    own = b"x" * (32 << 20)
    Path(sys.argv[1]).touch()
time.sleep(60)
"""


def test_tree_memory_counts_shared_pages_once_and_child_processes(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with child([sys.executable, "-c", PARENT, str(ready)], stdout=tmp_path / "log") as parent:
        while not ready.exists():
            assert parent.wait(0.02) is None, parent.output()
        memory = tree_memory(parent.pid)
        peak = peak_rss_bytes(parent.pid)
    assert memory.processes == 2
    assert 96 * MIB < memory.pss_bytes < 150 * MIB  # 64 shared by both, 32 of the child, two interpreters
    assert 32 * MIB < memory.private_bytes < 64 * MIB
    assert 64 * MIB < peak < 160 * MIB  # the write's bytes were there too for a moment


def test_ended_process_has_no_memory(tmp_path: Path) -> None:
    with child([sys.executable, "-c", ""], stdout=tmp_path / "log") as process:
        process.wait()
    assert tree_memory(process.pid).processes == 0
    assert tree_memory(process.pid).pss_bytes == 0
    assert peak_rss_bytes(process.pid) == 0
    assert tree_memory(os.getpid()).pss_bytes > 0
