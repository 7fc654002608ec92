"""The kernel's OOM killer, which ends a process with SIGKILL when memory runs out. Its kills are counted per control
group. Sources: cgroups(7), and the kernel's cgroup-v2.rst (``memory.events``) and cgroup-v1/memory.rst
(``memory.oom_control``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_OWN_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")
_COUNTER = "oom_kill"


def oom_kills(groups: Path = _OWN_GROUPS, mount: Path = _MOUNT) -> int | None:
    """Processes of this process's control group that the OOM killer has ended so far; children are in the same group.
    None where the kernel does not tell. ``groups`` lists the groups of this process, ``mount`` has their files."""
    for path in _counters(groups, mount):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for name, _, count in (line.partition(" ") for line in lines):
            if name == _COUNTER and count.isdigit():
                return int(count)
    return None


def _counters(groups: Path, mount: Path) -> Iterator[Path]:
    """Files that may have the counter. In a container the group's path may be the host's, and its files are at the
    top."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for number, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if number == "0" and not controllers:
            folder, name = mount, "memory.events"
        elif "memory" in controllers.split(","):
            folder, name = mount / "memory", "memory.oom_control"
        else:
            continue
        yield folder / path.lstrip("/") / name
        yield folder / name
