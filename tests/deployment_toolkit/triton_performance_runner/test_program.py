from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import pytest

from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.triton_performance_runner import perf_analyzer
from deployment_toolkit.triton_performance_runner.options import PerformanceOptions
from deployment_toolkit.triton_performance_runner.program import find_program, link_libraries, program_version
from deployment_toolkit.triton_performance_runner.sweep import measure
from deployment_toolkit.triton_server.remote import TritonServer

NO_LIBRARY = "error while loading shared libraries: libb64.so.0d: cannot open shared object file"
NEWER_SYSTEM = "/lib/libc.so.6: version `GLIBC_2.38' not found (required by perf_analyzer)"


def write_program(path: Path, script: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_installed_program_is_the_one_in_the_folder_of_its_own_and_tells_its_version() -> None:
    assert find_program() == Path(sys.prefix) / "perf_analyzer" / "bin" / "perf_analyzer"
    (version,) = program_version().values()
    assert re.fullmatch(r"2\.\d+\.\d+", version)


def test_own_folder_comes_before_scripts_and_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = sysconfig.get_path
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path) if name == "scripts" else scripts(name))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(PerformanceError, match=r"there is no perf_analyzer in .*: run scripts/install.sh"):
        find_program()
    assert program_version() == {}
    for place in ("bin/perf_analyzer", "perf_analyzer", "prefix/perf_analyzer/bin/perf_analyzer"):
        written = write_program(tmp_path / place)
        assert find_program() == written


def test_libraries_have_the_names_that_both_releases_look_for(tmp_path: Path) -> None:
    """2.51 links against the first two; 2.60 opens the third, without which it shares no memory."""
    folder = link_libraries(tmp_path)
    for name in ("libb64.so.0d", "libcudart.so.12", "libcudart.so"):
        assert (folder / name).is_file()


def test_program_that_does_not_run_has_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    write_program(tmp_path / "perf_analyzer" / "bin" / "perf_analyzer", f'echo "{NO_LIBRARY}" >&2; exit 127')
    assert program_version() == {}


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        (NO_LIBRARY, r"libb64.so.0d: cannot open .*: run scripts/install.sh, .*or install the package of this library"),
        (NEWER_SYSTEM, r"`GLIBC_2.38' not found .*: it is for a newer system; run scripts/install.sh"),
    ],
)
def test_program_that_can_not_start_is_told_with_the_remedy(
    sampler_server: TritonServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, told: str
) -> None:
    program = write_program(tmp_path / "program", f"cat >&2 <<'END'\n{printed}\nEND\nexit 127")
    monkeypatch.setattr(perf_analyzer, "find_program", lambda: program)
    options = PerformanceOptions(
        model_name="sampler", server_url=sampler_server.http_url, result_path=tmp_path / "latency.csv"
    )
    with pytest.raises(PerformanceError, match=told):
        measure(options)
