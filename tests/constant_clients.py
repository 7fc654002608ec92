"""Clients that keep their connections and send requests to the model ``adder`` one after another, until the server
refuses them."""

from __future__ import annotations

import threading
import time
from types import ModuleType

import numpy as np
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from deployment_toolkit.triton_server.remote import TritonServer

_DEADLINE_S = 120
_CUT = ("Socket closed", "Stream removed", "RST_STREAM", "CANCELLED", "connection reset")


class ConstantClients:
    """``count`` clients per protocol. ``answered`` counts right answers. ``refused`` and ``lost`` hold how each client
    ended: it was told no, by the server or because nobody listens any more, or its request got no answer."""

    def __init__(self, server: TritonServer, count: int) -> None:
        self.answered = 0
        self.refused: list[str] = []
        self.lost: list[str] = []
        self._lock = threading.Lock()
        clients = [(http_client, server.http_url), (grpc_client, server.grpc_url)] * count
        self._threads = [threading.Thread(target=self._send, args=client, daemon=True) for client in clients]
        for thread in self._threads:
            thread.start()

    def wait_answered(self, at_least: int) -> None:
        """Returns when so many requests have been answered."""
        deadline = time.monotonic() + _DEADLINE_S
        while self.answered < at_least:
            assert time.monotonic() < deadline and not self.lost and not self.refused, (self.lost, self.refused)
            time.sleep(0.01)

    def join(self) -> None:
        """Returns when all clients have ended."""
        for thread in self._threads:
            thread.join(_DEADLINE_S)
            assert not thread.is_alive()

    def _send(self, protocol: ModuleType, url: str) -> None:
        client = protocol.InferenceServerClient(url.partition("://")[2])
        inputs = [protocol.InferInput("x1", [1, 1], "FP32"), protocol.InferInput("x2", [1, 3], "INT32")]
        ended = None
        number = 0
        while ended is None:
            number = (number + 1) % 600
            inputs[0].set_data_from_numpy(np.full((1, 1), number, np.float32))
            inputs[1].set_data_from_numpy(np.array([[number, 1, 2]], np.int32))
            ended = self._ask(client, inputs, 2 * number + 3)
        with self._lock:
            (self.lost if ended.startswith("lost") else self.refused).append(f"{ended} ({url})")
        client.close()

    def _ask(self, client: object, inputs: list[object], expected: int) -> str | None:
        """How the client ended; None if it goes on."""
        try:
            answer = client.infer("adder", inputs).as_numpy("y")  # type: ignore[attr-defined]
        except ConnectionRefusedError as error:
            return f"refused: {error}"
        except InferenceServerException as error:
            cut = any(text in str(error) for text in _CUT)
            return f"{'lost' if cut else 'refused'}: {error}"
        except Exception as error:
            return f"lost: {error!r}"
        if answer.item() != expected:
            return f"lost: {answer.item()} in place of {expected}"
        with self._lock:
            self.answered += 1
        return None
