"""Versions of the model of served_offset.py, dumps of what they should answer, and clients that keep asking for it."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from onnx import helper, numpy_helper

from deployment_toolkit.core import Batch, Format, Host, ModelSpec, Prediction, TensorSpec
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.rows.dump import DumpOptions, DumpWriter
from deployment_toolkit.triton_server.remote import TritonServer

SERVED_OFFSET = Path(__file__).with_name("served_offset.py")
NAME = "offset"
MOST = 64
ROWS = 400
CONFIG = """
name: "offset"
backend: "python"
default_model_filename: "model.py"
max_batch_size: 64
input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
dynamic_batching { preferred_batch_size: [ 64 ] }
version_policy { specific { versions: [ 1 ] } }
parameters { key: "model_spec" value { string_value: '%s' } }
"""
_DEADLINE_S = 120


def offset_config(value_range: tuple[int, int] = (0, 999), spec: ModelSpec | None = None) -> str:
    """The model's configuration. The range of x, or the signature, is only told: the model takes any x."""
    x, y = TensorSpec("x", "float32", (1,), value_range=value_range), TensorSpec("y", "float32", (1,))
    return CONFIG % json.dumps((spec or ModelSpec((x,), (y,))).to_dict())


def add_offset_model(repository: Path, offset: float, *, config: str = "", **behaviour: object) -> Path:
    """Makes version 1 of the model ``offset`` in a repository."""
    version = repository / NAME / "1"
    version.mkdir(parents=True)
    shutil.copyfile(SERVED_OFFSET, version / "model.py")
    (version / "behaviour.json").write_text(json.dumps({"offset": offset, **behaviour}))
    (version.parent / "config.pbtxt").write_text(config or offset_config())
    return version.parent


def add_compiled_offset_model(repository: Path, offset: float) -> Path:
    """Makes version 1 of the same model in the C++ host, on ONNX Runtime."""
    x, y = TensorSpec("x", "float32", (1,), value_range=(0, 999)), TensorSpec("y", "float32", (1,))
    ends = [helper.make_tensor_value_info(item.name, onnx.TensorProto.FLOAT, ["batch", 1]) for item in (x, y)]
    constant = numpy_helper.from_array(np.array([offset], np.float32), "offset")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "offset"], ["y"])], "offset", ends[:1], ends[1:], [constant]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        onnx.save(model, str(source))
        deployment = Deployment(NAME, ModelSpec((x,), (y,)), Format.ONNX, host=Host.CPP, max_batch_size=MOST)
        return add_model(repository, deployment, source).folder


def write_reference(path: Path, offset: float, *, inputs: bool = True) -> Path:
    """A dump of what a version of this offset answers."""
    x = np.arange(ROWS, dtype=np.float32)[:, None]
    with DumpWriter(DumpOptions(path, dump_labels=True, dump_inputs=inputs)) as dump:
        labels = (x > 100).astype(np.int32)
        dump.write(Prediction(Batch(np.arange(ROWS), {"x": x}, {"clicked": labels}), {"y": x + np.float32(offset)}))
    return path


class VersionClients:
    """A client of each protocol for each of ``versions`` of the model, which sends one request after another, with a
    pause of ``pause_s`` between them; an empty version is the server's choice. ``answered`` counts answers by version
    and offset; ``lost`` has each request that was not answered, ``wrong`` each answer of another offset than it may
    have."""

    def __init__(
        self, server: TritonServer, versions: Sequence[str], may_have: Collection[float], *, pause_s: float = 0.0
    ) -> None:
        self.answered: Counter[tuple[str, float]] = Counter()
        self.lost: list[str] = []
        self.wrong: list[str] = []
        self._may_have = {version: frozenset(may_have) for version in versions}
        self._pause_s = pause_s
        self._ended = threading.Event()
        self._lock = threading.Lock()
        clients = [(http_client, server.http_url), (grpc_client, server.grpc_url)]
        places = [(*client, version) for version in versions for client in clients]
        self._threads = [threading.Thread(target=self._send, args=place, daemon=True) for place in places]
        for thread in self._threads:
            thread.start()

    @property
    def count(self) -> int:
        """Answers of all."""
        return sum(self.answered.values())

    def expect(self, *offsets: float, version: str = "") -> None:
        """From now on, requests for this version may have answers of these offsets alone."""
        self._may_have = {**self._may_have, version: frozenset(offsets)}

    def wait(self, more: int) -> None:
        """Returns when so many more requests are answered, and none is lost or wrong."""
        deadline, wanted = time.monotonic() + _DEADLINE_S, self.count + more
        while self.count < wanted:
            assert time.monotonic() < deadline and not self.lost, self.lost
            time.sleep(0.01)
        assert (self.lost, self.wrong) == ([], [])

    def end(self) -> None:
        """Returns when every request is answered."""
        self._ended.set()
        for thread in self._threads:
            thread.join(_DEADLINE_S)
            assert not thread.is_alive()

    def _send(self, protocol: ModuleType, url: str, version: str) -> None:
        client = protocol.InferenceServerClient(url.partition("://")[2])
        tensor = protocol.InferInput("x", [1, 1], "FP32")
        number = 0
        while not self._ended.wait(self._pause_s):
            number = (number + 1) % 1000
            tensor.set_data_from_numpy(np.full((1, 1), number, np.float32))
            may_have = self._may_have[version]  # of the moment in which it is sent
            try:
                offset = client.infer(NAME, [tensor], model_version=version).as_numpy("y").item() - number
            except Exception as error:
                with self._lock:
                    self.lost.append(f"{url} version {version!r}: {error!r}")
                continue
            with self._lock:
                self.answered[version, offset] += 1
                if offset not in may_have:
                    self.wrong.append(f"{url} version {version!r}: {offset}, not {set(may_have)}")
        client.close()
