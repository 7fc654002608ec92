"""Engine inside every peer's server: onnxruntime for an ONNX file, OpenVINO for an OpenVINO folder.

It runs in the peers' environments and needs only numpy and one engine. A request's body has rows as records, all inputs
of a row next to each other in the order of their names, so that the bodies of a batch are joined by one copy.
"""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deployment_toolkit.library.openvino.arithmetic import arithmetic

MAIN_FILE = "model.xml"
_ONNX_DTYPES = {"tensor(float)": "<f4", "tensor(int32)": "<i4", "tensor(int64)": "<i8"}


class Engine:
    """A loaded model; up to ``callers`` threads may call it at a time, each inference has ``threads`` threads."""

    def __init__(self, model: Path, *, threads: int, callers: int = 1) -> None:
        self._model = _OnnxModel(model, threads) if model.is_file() else _OpenVinoModel(model, threads, callers)
        self.record: np.dtype[Any] = np.dtype(
            [(name, *self._model.inputs[name]) for name in sorted(self._model.inputs)]
        )

    def answer(self, body: bytes) -> bytes:
        """Probabilities, float32, of the rows of a body."""
        return self._infer(np.frombuffer(body, self.record)).tobytes()

    def answer_all(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Probabilities of several bodies, in one inference."""
        answers = memoryview(self._infer(np.frombuffer(b"".join(bodies), self.record)).tobytes())
        ends = np.cumsum([len(body) // self.record.itemsize for body in bodies]) * 4
        return [bytes(answers[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def probabilities(self, columns: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probabilities of rows whose inputs are next to each other as numbers, [B, numbers]; ids up to 2^24 are
        exact."""
        feeds, start = {}, 0
        for name in self.record.names or ():
            dtype, shape = self._model.inputs[name]
            stop = start + shape[0]
            feeds[name] = np.ascontiguousarray(columns[:, start:stop], dtype)
            start = stop
        return self._model.run(feeds)

    def _infer(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return self._model.run({name: np.ascontiguousarray(rows[name]) for name in self.record.names or ()})


class _OnnxModel:
    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Threads that spin while they wait would take the core from the server and from the client.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = {
            node.name: (_ONNX_DTYPES[node.type], tuple(node.shape[1:])) for node in self._session.get_inputs()
        }
        self._output = [self._session.get_outputs()[0].name]

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        answer: npt.NDArray[np.float32] = self._session.run(self._output, feeds)[0]
        return answer


class _OpenVinoModel:
    def __init__(self, path: Path, threads: int, callers: int) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(str(path / MAIN_FILE))
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        compiled = core.compile_model(model, "CPU", {**config, "INFERENCE_PRECISION_HINT": arithmetic(path)})
        self.inputs = {
            port.any_name: (
                port.element_type.to_dtype().newbyteorder("<"),
                tuple(size.get_length() for size in list(port.partial_shape)[1:]),
            )
            for port in model.inputs
        }
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(callers):
            self._idle.put(compiled.create_infer_request())

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        request = self._idle.get()
        try:
            answer: npt.NDArray[np.float32] = request.infer(feeds, share_inputs=True, share_outputs=False)[0]
            return answer
        finally:
            self._idle.put(request)
