"""Cores of a process: a container with a limit of CPU time has no more, whatever runtime counts them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from deployment_toolkit import machine
from deployment_toolkit.library.onnx.session import OnnxLoader
from deployment_toolkit.machine import limited_cores, usable_cores
from deployment_toolkit.triton_server import installation
from tests.cgroup_files import CASES, write_groups

HALF_A_CORE = ("0::/\n", {"cpu.max": "50000 100000\n"})


def limit(monkeypatch: pytest.MonkeyPatch, folder: Path, groups: str, files: Mapping[str, str]) -> None:
    """Gives this process these control groups."""
    for name, path in zip(("_GROUPS", "_MOUNT"), write_groups(folder, groups, files), strict=True):
        monkeypatch.setattr(machine, name, path)


@pytest.mark.parametrize(("groups", "files", "cores"), CASES)
def test_cores_are_those_that_the_limit_pays_for(
    groups: str, files: Mapping[str, str], cores: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit(monkeypatch, tmp_path, groups, files)
    assert usable_cores() == cores
    assert limited_cores() == (cores if cores < len(os.sched_getaffinity(0)) else None)


def test_without_control_groups_all_cores_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "none")
    assert usable_cores() == len(os.sched_getaffinity(0))


def test_engines_and_the_server_take_no_more_threads_than_the_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_onnx: Callable[..., Path]
) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    chosen = OnnxLoader()
    limit(monkeypatch, tmp_path, *HALF_A_CORE)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert [loader._threads for loader in (chosen, OnnxLoader(), OnnxLoader(threads=3))] == [None, 1, 3]
    assert OnnxLoader().load(path).spec
    assert installation._http_threads() == 2
