"""The counting of the rollouts' clients, against a made-up server that errs where it is told to: a real one can't be
made to lose or spoil exactly one answer."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from benchmarks.rollouts.constant_load import GRPC, HTTP, Questions, constant_load
from deployment_toolkit.core import Array
from deployment_toolkit.machine import LOOPBACK

ANSWER_S = 0.5
ROWS = np.arange(4, dtype=np.float32).reshape(-1, 1, 1)
QUESTIONS = Questions("made_up", [{"x": row} for row in ROWS], list(ROWS + 1), 0.1)
# What becomes of the requests from the fourth on; the others are answered rightly.
FAULTS = ("other value", "other request's", "short", "empty", "not a number", "error", "late", "dropped")
WRONG = 5  # of them


class Faults:
    """Counts requests by protocol, and says what becomes of each."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def answer(self, protocol: str, request: bytes) -> tuple[str, bytes]:
        """The fault of this request, or nothing, and the bytes of its answer."""
        self.asked[protocol] += 1
        number = self.asked[protocol] - 4
        fault = FAULTS[number] if 0 <= number < len(FAULTS) else ""
        right: Array = np.frombuffer(request[-4:], np.float32) + 1
        if fault == "late":
            time.sleep(2 * ANSWER_S)
        spoilt = {
            "other value": right + 0.2,
            "other request's": right + 1,
            "short": right[:0],
            "not a number": right * np.nan,
        }
        return fault, b"" if fault == "empty" else b"head" + spoilt.get(fault, right).astype(np.float32).tobytes()


class _Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """The client of a late answer is gone."""


@contextlib.contextmanager
def made_up_server(faults: Faults) -> Iterator[tuple[str, str]]:
    """URLs of a server for HTTP and gRPC."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            fault, answer = faults.answer(HTTP, self.rfile.read(int(self.headers["Content-Length"])))
            if fault == "dropped":
                self.close_connection = True
                return
            self.send_response(503 if fault == "error" else 200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            """Nothing is logged."""

    def infer(request: bytes, context: Any) -> bytes:
        fault, answer = faults.answer(GRPC, request)
        if fault in ("error", "dropped"):
            context.abort(grpc.StatusCode.UNAVAILABLE if fault == "error" else grpc.StatusCode.CANCELLED, fault)
        return answer

    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    rpc = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    rpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),))
    port = rpc.add_insecure_port(f"{LOOPBACK}:0")
    rpc.start()
    with _Quiet((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_port}", f"grpc://{LOOPBACK}:{port}"
        finally:
            server.shutdown()
            thread.join()
            rpc.stop(None).wait()


def test_wrong_lost_and_late_answers_are_counted_and_nothing_is_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.rollouts.constant_load._ANSWER_S", ANSWER_S)
    faults = Faults()
    with made_up_server(faults) as urls, constant_load(*urls, QUESTIONS, 1) as load:
        load.wait_ended(load.tally(), len(FAULTS) + 10)
        load.stop()
        tally = load.tally()
        assert tally.wrong == {HTTP: WRONG, GRPC: WRONG}
        assert tally.lost == {HTTP: len(FAULTS) - WRONG, GRPC: len(FAULTS) - WRONG}, tally.reasons
        assert tally.answered + tally.lost == faults.asked
    reasons = " ".join(tally.reasons)
    for reason in ("HTTP 503", "HTTP TimeoutError", "HTTP RemoteDisconnected", "UNAVAILABLE", "DEADLINE", "CANCELLED"):
        assert reason in reasons
    assert 0 < tally.longest_s < ANSWER_S


def test_fault_of_a_client_is_no_lost_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_right(self: Questions, position: int, answer: bytes) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(Questions, "is_right", is_right)
    with (
        made_up_server(Faults()) as urls,
        pytest.raises(ZeroDivisionError),
        constant_load(*urls, QUESTIONS, 1) as load,
    ):
        load.wait_ended(load.tally(), 1)
