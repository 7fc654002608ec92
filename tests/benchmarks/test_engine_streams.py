"""The program that checks the answers of parallel streams: it compiles, and counts right and wrong answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.cpp_host.compiler import Compiler
from deployment_toolkit.cpp_host.library import OpenVino
from deployment_toolkit.errors import ProcessError
from deployment_toolkit.process import run
from tests.wrong_for_size import write_wrong_for

SOURCE = ROOT / "benchmarks" / "engine_streams.cpp"


def test_engine_streams_counts_right_and_wrong_answers(tmp_path: Path) -> None:
    openvino = OpenVino.find()
    (library,) = openvino.library.parent.glob("libopenvino.so.*")
    program = tmp_path / "engine_streams"
    options = ["-std=c++17", "-O1", "-isystem", str(openvino.include), str(SOURCE), str(library)]
    link = [f"-Wl,-rpath,{library.parent}", "-o", str(program)]
    run([*Compiler.find(os.environ).command, *options, *link], log_path=tmp_path / "compiler")
    asked = ["--tries", "2", "--rows", "96,224", "--busy", "0", "--repeats", "1"]
    right = write_wrong_for(7, tmp_path / "right") / "model.xml"
    assert "2 right" in run([program, right, *asked], log_path=tmp_path / "log").stdout
    wrong = write_wrong_for(112, tmp_path / "wrong") / "model.xml"  # half of 224
    with pytest.raises(ProcessError) as raised:
        run([program, wrong, *asked], log_path=tmp_path / "log")
    assert "2 wrong" in raised.value.stdout
