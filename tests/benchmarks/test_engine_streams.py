"""The program that checks the answers of parallel streams: it compiles, and counts right and wrong answers."""

from __future__ import annotations

import os
from pathlib import Path

import openvino
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Format
from deployment_toolkit.cpp_host.compiler import Compiler
from deployment_toolkit.errors import ProcessError
from deployment_toolkit.process import run
from tests.small_networks import wrong_for

SOURCE = ROOT / "benchmarks" / "engine_streams.cpp"


def test_engine_streams_counts_right_and_wrong_answers(tmp_path: Path) -> None:
    package = Path(openvino.__file__).parent
    (library,) = (package / "libs").glob("libopenvino.so.*")
    program = tmp_path / "engine_streams"
    options = ["-std=c++17", "-O1", "-isystem", str(package / "include"), str(SOURCE), str(library)]
    link = [f"-Wl,-rpath,{library.parent}", "-o", str(program)]
    run([*Compiler.find(os.environ).command, *options, *link], log_path=tmp_path / "compiler")
    asked = ["--tries", "2", "--rows", "96,224", "--busy", "0", "--repeats", "1"]
    right = wrong_for(7).write(Format.OPENVINO, tmp_path / "right") / "model.xml"
    assert "2 right" in run([program, right, *asked], log_path=tmp_path / "log").stdout
    wrong = wrong_for(112).write(Format.OPENVINO, tmp_path / "wrong") / "model.xml"  # half of 224
    with pytest.raises(ProcessError) as raised:
        run([program, wrong, *asked], log_path=tmp_path / "log")
    assert "2 wrong" in raised.value.stdout
