"""Control groups as files, for both programs that count a container's cores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_ALL = len(os.sched_getaffinity(0))
_V1 = "9:cpuset:/pod\n4:cpuacct,cpu:/pod/one\n1:name=systemd:/pod\n"

# List of a process's groups, files below their mount, cores.
CASES: list[tuple[str, Mapping[str, str], int]] = [
    ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),  # a container, cgroup v2
    ("0::/pod/one\n", {"pod/one/cpu.max": "50000 100000\n"}, 1),
    ("0::/pod/one\n", {"pod/one/cpu.max": "max 100000\n", "cpu.max": "99000 100000\n"}, 1),
    ("0::/\n", {"cpu.max": f"{(_ALL - 1) * 100000 + 1000} 100000\n"}, _ALL),  # a part of a core counts
    ("0::/\n", {"cpu.max": "max 100000\n"}, _ALL),
    ("0::/\n", {"cpu.max": "9900000 100000\n"}, min(_ALL, 99)),
    (_V1, {"cpuacct,cpu/cpu.cfs_quota_us": "100000\n", "cpuacct,cpu/cpu.cfs_period_us": "100000\n"}, 1),
    (_V1, {"cpu/pod/one/cpu.cfs_quota_us": "25000\n", "cpu/pod/one/cpu.cfs_period_us": "100000\n"}, 1),
    (_V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, _ALL),
    (_V1, {"cpu.max": "100000 100000\n"}, _ALL),  # not this process's
    ("nonsense\n", {"cpu.max": "100000 100000\n"}, _ALL),
]


def write_groups(folder: Path, groups: str, files: Mapping[str, str]) -> tuple[Path, Path]:
    """The list of groups and their mount as files in ``folder``."""
    for name, text in {"groups": groups, **{f"mount/{name}": text for name, text in files.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "groups", folder / "mount"
