from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from deployment_toolkit.containers.progress import EngineProgress
from deployment_toolkit.errors import ContainerError


def test_silent_build_is_logged_with_its_step(caplog: pytest.LogCaptureFixture) -> None:
    told = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "still at it: STEP 2/3 Downloading" in record.getMessage():
                told.set()

    def parts() -> Iterator[dict[str, str]]:
        yield {"stream": "STEP 1/3: FROM debian:12\n"}
        yield {"stream": "STEP 2/3: RUN pip install     everything\n"}
        yield {"stream": "Downloading 3 GB\n"}
        assert told.wait(20)  # it says no more until somebody has told where it is
        yield {"stream": "STEP 3/3: CMD bash\n"}

    caplog.set_level(logging.INFO, logger="containers")
    listener = Listener()
    logging.getLogger("containers").addHandler(listener)
    try:
        EngineProgress("stream", interval_s=0.01).follow(parts())
    finally:
        logging.getLogger("containers").removeHandler(listener)
    steps = ["STEP 1/3: FROM debian:12", "STEP 2/3: RUN pip install everything", "STEP 3/3: CMD bash"]
    assert [line for line in caplog.messages if "still" not in line] == steps
    assert threading.active_count() == len([thread for thread in threading.enumerate() if "engine" not in thread.name])


def test_build_error_includes_the_last_lines_of_output() -> None:
    parts = [{"status": f"layer {index}"} for index in range(9)]
    with pytest.raises(ContainerError, match=r"^layer 5 \| layer 6 \| layer 7 \| layer 8 \| disk full$"):
        EngineProgress("status").follow([*parts, {"error": "disk full"}])
