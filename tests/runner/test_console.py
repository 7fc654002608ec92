from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest

import runner.console
from runner.console import Console
from runner.records import StageRecord, StageState


def test_running_stage_tells_what_it_does_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.console, "_LOG_EVERY_S", 0.0)
    stream, log = io.StringIO(), tmp_path / "stage.log.err"
    console, record = Console(stream, tmp_path), StageRecord("correctness", 1, StageState.RUNNING)
    console.started(record)

    def shown(command: str) -> str:
        console.running(record, command, log)
        return stream.getvalue().splitlines()[-1].partition(" s  ")[2]

    assert shown("inference_http") == "inference_http: no message yet"
    log.write_text("09:12:01 INFO inference loading\ninference: 1.00k of 55.3k rows [00:01 < 00:55]\n")
    assert shown("inference_http") == "inference_http: inference: 1.00k of 55.3k rows [00:01 < 00:55]"
    log.write_text("09:12:01 INFO convert converting to onnx\n")
    os.utime(log, (time.time() - 75, time.time() - 75))
    assert shown("correctness").removeprefix("(75 s ago) ").removeprefix("(76 s ago) ") == "converting to onnx"
    assert " s ago) " in shown("gate")


@pytest.mark.parametrize(("state", "has_log"), [(StageState.OK, False), (StageState.FAILED, True)])
def test_note_of_a_stage_that_ended_well_needs_no_log(tmp_path: Path, state: StageState, *, has_log: bool) -> None:
    stream = io.StringIO()
    record = StageRecord("performance offline", 1, state, message="1 of 2 points", log="logs/a.log")
    Console(stream, tmp_path).finished(record)
    assert "1 of 2 points" in stream.getvalue() and ("log: " in stream.getvalue()) is has_log
