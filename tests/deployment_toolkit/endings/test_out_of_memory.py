from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployment_toolkit.endings.out_of_memory import oom_kills
from deployment_toolkit.errors import ProcessError
from deployment_toolkit.process import how_it_ended, run

EATER = """if True:
    import sys
    from pathlib import Path
    from deployment_toolkit.errors import ProcessError
    from deployment_toolkit.process import run
    Path(sys.argv[1], "cgroup.procs").write_text("0")
    try:
        run([sys.executable, "-c", "bytearray(2**30).find(1)"], log_path=Path(sys.argv[2]))
    except ProcessError as error:
        print(error.ending)"""


@pytest.mark.parametrize(
    ("line", "file", "text"),
    [
        ("0::/a/b", "a/b/memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 7"),
        ("0::/host/path", "memory.events", "oom_kill 2"),  # in a container
        ("5:cpu,memory:/a", "memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2"),
        ("5:memory:/host/path", "memory/memory.oom_control", "oom_kill 2"),
    ],
)
def test_kills_are_read_from_either_version_of_control_groups(tmp_path: Path, line: str, file: str, text: str) -> None:
    groups, counter = tmp_path / "cgroup", tmp_path / "mount" / file
    groups.write_text(f"4:cpuset:/\n{line}\n")
    assert oom_kills(groups, tmp_path / "mount") is None
    counter.parent.mkdir(parents=True)
    counter.write_text(text)
    assert oom_kills(groups, tmp_path / "mount") == 2
    assert oom_kills(tmp_path / "nowhere", tmp_path / "mount") is None


@contextlib.contextmanager
def group_of_64_mib() -> Iterator[Path]:
    """A new control group for memory; skips the test where none can be made."""
    first, second = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    version_1 = first.is_dir()
    group = (first if version_1 else second) / f"wide_deep_test_{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        limits = {"memory.limit_in_bytes": 1} if version_1 else {"memory.max": 1, "memory.swap.max": 0}
        try:
            for name, share in limits.items():
                (group / name).write_text(str(share * 64 * 2**20))
        except OSError as error:
            pytest.skip(f"memory of a control group can't be limited here: {error}")
        yield group
    finally:
        group.rmdir()


def test_kill_for_lack_of_memory_is_told_surely(tmp_path: Path) -> None:
    with group_of_64_mib() as group:
        done = run([sys.executable, "-c", EATER, group, tmp_path / "eater"], log_path=tmp_path / "log", timeout_s=60)
    assert done.stdout == "was killed by SIGKILL, by the kernel's OOM killer when memory runs out\n"


def test_kill_by_hand_names_the_usual_reason(tmp_path: Path) -> None:
    with pytest.raises(ProcessError) as raised:
        run(["sh", "-c", "echo its last words >&2; kill -9 $$"], log_path=tmp_path / "log")
    usual = "was killed by SIGKILL, usually by the kernel's OOM killer when memory runs out"
    assert raised.value.ending == usual
    assert str(raised.value).endswith(f"{usual}: its last words")
    assert how_it_ended(137) == f"exited with 137, as a container does whose program {usual}"
