"""The C++ host inside the real server, with each of its engines: answers, and errors that reach the right request."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http
from tritonclient.utils import InferenceServerException, shared_memory

from deployment_toolkit.core import Array, Arrays, Batching, DeviceKind, Format, Host, ModelSpec, TensorSpec
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.errors import InferenceError, ServerError
from deployment_toolkit.library.registry import loader, packer
from deployment_toolkit.packing import pack, packed_spec
from deployment_toolkit.process import environment
from deployment_toolkit.rows.sample import random_rows
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.asking import ask, executions, statistics
from tests.deployment_toolkit.cpp_host.sanitized import sanitized_host
from tests.raw_request import LIKE_NONE, LIKE_ONE, answer_of, unchecked_shapes
from tests.server_key import key_headers
from tests.small_networks import ENGINES, Network, products, ranking, reshaping, summing, wrong_for

JOINED_ROWS = 8
LARGE_SIZE = 2048
FAR = 2**40
SPEC = summing().spec


@dataclass(frozen=True)
class Build:
    """An engine, by the format of its models, and the build of the host."""

    engine: Format
    is_sanitized: bool

    def __str__(self) -> str:
        return f"{self.engine} sanitized" if self.is_sanitized else str(self.engine)


@pytest.fixture(scope="module", params=[Build(one, sane) for sane in (False, True) for one in ENGINES], ids=str)
def build(request: pytest.FixtureRequest) -> Build:
    built: Build = request.param
    return built


@pytest.fixture(scope="module")
def engine(build: Build) -> Format:
    """Format of the models."""
    return build.engine


@pytest.fixture(scope="module")
def model(engine: Format, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The summing network."""
    return summing().write(engine, tmp_path_factory.mktemp("model") / "summing")


@pytest.fixture(scope="module")
def server(
    build: Build, engine: Format, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """Server with four models: ``joined`` collects 8 rows before it runs; ``pair`` has two instances, and each batch
    uses all threads; ``whole`` is not batched and accepts numbers that are not finite; ``single`` has one thread. The
    server lets impossible shapes pass."""
    folder = tmp_path_factory.mktemp("host")
    (folder / "repository").mkdir()
    collecting: dict[str, Any] = {"preferred_batch_sizes": (JOINED_ROWS,), "max_queue_delay_us": 20_000_000}
    dynamic = Batching.DYNAMIC
    two: dict[str, Any] = {"engine_count_per_device": {DeviceKind.CPU: 2}}
    two |= {"backend_parameters": {"threads": "2", "undivided_rows": "40"}}
    small: dict[str, Any] = {"batching": dynamic, "max_batch_size": 64}
    deployments: list[tuple[str, dict[str, Any]]] = [
        ("joined", {"batching": dynamic, "max_batch_size": JOINED_ROWS, **collecting}),
        ("pair", {"batching": dynamic, "max_batch_size": 512, **two}),
        ("whole", {"batching": Batching.DISABLED, "backend_parameters": {"non_finite": "accepted"}}),
        ("single", {**small, "backend_parameters": {"threads": "1"}}),
    ]
    with contextlib.ExitStack() as stack:
        builds = sanitized_host(folder) if build.is_sanitized else contextlib.nullcontext()
        with builds as env, unchecked_shapes(folder):
            running = stack.enter_context(local_server(folder / "repository", log_path=folder / "server.log", env=env))
        for name, options in deployments:
            add(running, Deployment(name, SPEC, engine, host=Host.CPP, **options), model)
            running.load_model(name, timeout_s=60)
        yield running
        if build.is_sanitized:
            os.kill(running.pid or 0, signal.SIGKILL)  # its libraries do not come to an end under the sanitizers


def test_repository_may_have_the_letters_of_patterns(build: Build, model: Path, tmp_path: Path) -> None:
    if build.is_sanitized:
        pytest.skip("the path is the same to the sanitizers")
    repository = tmp_path / "it's [2] *"
    add_model(repository, Deployment("summing", SPEC, build.engine, host=Host.CPP, max_batch_size=8), model)
    with local_server(repository, log_path=tmp_path / "server.log") as running:
        running.load_model("summing", timeout_s=60)
        (answer,) = ask(running, "summing", [rows(3)])
        assert_right(answer, rows(3))


def add(server: TritonServer, deployment: Deployment, model: Path) -> Path:
    """Adds a model to the server's repository without loading it."""
    assert server.log_path is not None
    return add_model(server.log_path.parent / "repository", deployment, model).folder


def rows(count: int, seed: int = 0, width: int = 5) -> Arrays:
    random = np.random.default_rng(seed)
    return {
        "item": random.integers(0, 10, (count, 1), dtype=np.int64),
        "tags": random.integers(-1, 5, (count, 3), dtype=np.int32),
        "wide": random.random((count, width), dtype=np.float32),
    }


def assert_right(answer: Any, x: Arrays) -> None:
    assert not isinstance(answer, Exception), answer
    score = 10 * x["item"] + x["tags"].sum(axis=1, keepdims=True) + x["wide"].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answer["score"], score, rtol=1e-5)
    np.testing.assert_array_equal(answer["twice"], 2 * x["item"])


def test_answer_equals_in_process_inference_bit_for_bit(server: TritonServer, engine: Format, model: Path) -> None:
    threads = None if engine is Format.TF_SAVEDMODEL else 1  # TensorFlow's are those of this process
    with loader(engine)(threads=threads).load(model) as session:
        for count in (1, 3, 64):
            x = rows(count, count)
            (answer,) = ask(server, "single", [x])
            assert isinstance(answer, dict)
            expected = session.infer(x)
            assert {name: array.tobytes() for name, array in answer.items()} == {
                name: array.tobytes() for name, array in expected.items()
            }


def test_concurrent_requests_on_two_instances_get_their_rows(server: TritonServer) -> None:
    random = np.random.default_rng(7)
    batches = [rows(int(count), seed) for seed, count in enumerate(random.integers(1, 90, 300))]
    batches += [rows(512, 1000), rows(1, 1001, width=30_000), rows(40, 1002, width=3_000), rows(1, 1003)]
    for x, answer in zip(batches, ask(server, "pair", batches), strict=True):
        assert_right(answer, x)
    told = statistics(server, "pair")
    assert told["inference_count"] == sum(len(x["item"]) for x in batches)
    assert told["execution_count"] < len(batches)  # some were joined
    times = told["inference_stats"]
    assert times["success"]["count"] == len(batches) and times["fail"]["count"] == 0
    parts = [times[part]["ns"] for part in ("queue", "compute_input", "compute_infer", "compute_output")]
    assert all(parts) and sum(parts) <= times["success"]["ns"]


def test_bad_id_fails_its_request_and_not_the_rest_of_the_batch(server: TritonServer) -> None:
    batches = [rows(1, 0), rows(3, 1), rows(2, 2), rows(1, 3), rows(1, 4)]
    batches[1]["item"][2] = 2**40
    batches[3]["tags"][0, 1] = -2
    before = executions(server, "joined", 0)
    answers = ask(server, "joined", batches)
    assert executions(server, "joined", before + 1) == before + 1, "they were not joined: the test shows nothing"
    for index in (0, 2, 4):
        assert_right(answers[index], batches[index])
    assert "input item holds id 1099511627776, outside 0 .. 9 (cardinality 10)" in str(answers[1])
    assert "input tags holds id -2, outside -1 .. 4 (cardinality 5)" in str(answers[3])
    assert statistics(server, "joined")["inference_stats"]["fail"]["count"] == 2


def test_batch_of_only_bad_ids_is_answered(server: TritonServer) -> None:
    batches = [rows(4, 0), rows(4, 1)]
    for x in batches:
        x["item"][:] = 999
    assert [str(answer).count("holds id 999") for answer in ask(server, "joined", batches)] == [1, 1]


def test_number_that_is_not_finite_fails_its_request_only(server: TritonServer) -> None:
    batches = [rows(1, 0), rows(3, 1), rows(2, 2, width=5), rows(1, 3), rows(1, 4)]
    batches[1]["wide"][2, 4] = np.nan
    batches[2]["wide"][0, 0] = -np.inf
    batches[3]["wide"][0, 0] = np.finfo(np.float32).max / 10
    before = executions(server, "joined", 0)
    answers = ask(server, "joined", batches)
    assert executions(server, "joined", before + 1) == before + 1, "they were not joined: the test shows nothing"
    for index in (0, 3, 4):
        assert_right(answers[index], batches[index])
    assert "input wide holds NaN, a number must be finite" in str(answers[1])
    assert "input wide holds -infinity, a number must be finite" in str(answers[2])
    (accepted,) = ask(server, "whole", [batches[1]])
    assert isinstance(accepted, dict)
    assert np.isnan(accepted["score"]).ravel().tolist() == [False, False, True]


def add_wrong_for(size: int, server: TritonServer, engine: Format, folder: Path, parameters: dict[str, str]) -> str:
    """Adds a model to the server's repository without loading it; gives its name."""
    name, network = f"wrong_for_{size}_with_{len(parameters)}", wrong_for(size)
    options: dict[str, Any] = {"batching": Batching.DYNAMIC, "max_batch_size": 600, "backend_parameters": parameters}
    add(server, Deployment(name, network.spec, engine, host=Host.CPP, **options), network.write(engine, folder / name))
    return name


@pytest.mark.parametrize(
    ("size", "parameters", "told"),
    [
        (48, {}, "asked for 48 rows at once, stream 1 answers y by up to 0.5 otherwise"),
        (192, {"undivided_rows": "0", "threads": "3"}, "asked for 192 rows at once, stream 1 answers y"),
        # All others differ from the largest, with which they are compared.
        (512, {"threads": "1"}, "asked for 1, 2, 4, 8, 16, 32, 48, 64, 96,"),
    ],
)
def test_model_with_wrong_answers_for_one_size_is_not_loaded(
    server: TritonServer, engine: Format, tmp_path: Path, size: int, parameters: dict[str, str], told: str
) -> None:
    with pytest.raises(ServerError, match="the engine answers wrong, the model is not loaded") as raised:
        server.load_model(add_wrong_for(size, server, engine, tmp_path, parameters), timeout_s=60)
    assert told in str(raised.value) and "than the same rows are answered among 512" in str(raised.value)


def test_engine_gets_bucket_sizes_only(server: TritonServer, engine: Format, tmp_path: Path) -> None:
    name = add_wrong_for(7, server, engine, tmp_path, {})
    server.load_model(name, timeout_s=60)
    x = {"x": rows(7)["wide"][:, :1].copy()}
    (answer,) = ask(server, name, [x])
    assert isinstance(answer, dict)
    np.testing.assert_array_equal(answer["y"], x["x"])


@pytest.mark.parametrize(("threads", "undivided_rows"), [("1", "0"), ("2", "0"), ("2", "40")])
@pytest.mark.parametrize(
    ("network", "told"),
    [
        (reshaping(doubling=False), "inference: "),
        (reshaping(doubling=True), "output y has not one row for each row of the batch"),
    ],
    ids=["failing", "doubling"],
)
def test_failed_batch_is_reported_and_the_server_continues(
    server: TritonServer,
    engine: Format,
    tmp_path: Path,
    network: Network,
    told: str,
    threads: str,
    undivided_rows: str,
) -> None:
    """The batch fails on a stream's thread and on the caller's thread. With one thread in all, the caller's thread
    could return the answers of the batch before."""
    name = f"{told.split()[0].rstrip(':')}_{threads}_{undivided_rows}"
    options: dict[str, Any] = {"batching": Batching.STATIC, "max_batch_size": 64}
    options["backend_parameters"] = {"threads": threads, "undivided_rows": undivided_rows}
    deployment = Deployment(name, network.spec, engine, host=Host.CPP, **options)
    add(server, deployment, network.write(engine, tmp_path / name))
    server.load_model(name, timeout_s=60)
    for count in (1, 40):
        good, bad = (np.ones((count, width), np.float32) for width in (1, 2))
        (answer,) = ask(server, name, [{"x": bad}])
        assert isinstance(answer, InferenceError) and told in str(answer)
        (answer,) = ask(server, name, [{"x": good}])
        assert isinstance(answer, dict) and np.array_equal(answer["y"], good)


def write_products(name: str, size: int, engine: Format, folder: Path) -> tuple[Deployment, Path]:
    network = products(size)
    options: dict[str, Any] = {"batching": Batching.DYNAMIC, "max_batch_size": 1024}
    return Deployment(name, network.spec, engine, host=Host.CPP, **options), network.write(engine, folder / name)


def test_onednn_primitives_are_built_at_load_for_each_stream(tmp_path: Path) -> None:
    """Reads oneDNN's log of the primitives that OpenVINO creates, with times."""
    repository, log = tmp_path / "repository", tmp_path / "log"
    repository.mkdir()
    add_model(repository, *write_products("products", 64, Format.OPENVINO, tmp_path))
    env = environment(prepend={}) | {"ONEDNN_VERBOSE": "profile_create", "ONEDNN_VERBOSE_TIMESTAMP": "1"}
    with local_server(repository, log_path=log, env=env) as server:
        server.load_model("products", timeout_s=60)
        loaded_ms = time.time() * 1000
        batches = [
            {"x": np.full((count, 1), 0.5, np.float32)} for count in (1, 2, 7, 64, 65, 130, 300, 700, 1000, 1024)
        ]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda batch: ask(server, "products", [batch])[0], batches * 4))
        assert all(isinstance(answer, dict) for answer in answers)
    told = re.findall(r"^onednn_verbose,v1,([0-9.]+),primitive,([a-z:_]+),", log.read_text(), re.MULTILINE)
    at_load = [what for when, what in told if float(when) <= loaded_ms]
    assert at_load.count("create:cache_miss") > 10 and "create:cache_hit" not in at_load
    assert len(told) == len(at_load)


def test_one_packed_model_answers_requests_of_both_signatures(
    server: TritonServer, engine: Format, tmp_path: Path
) -> None:
    """Many requests at once, joined by the server, some with an id outside its table."""
    network = ranking()
    source, packed = network.write(engine, tmp_path / "ranking"), packed_spec(network.spec)
    made = tmp_path / ("packed" if engine is Format.OPENVINO else source.name)
    made.mkdir() if engine is Format.OPENVINO else None
    packer(engine)().convert(source, made)
    options: dict[str, Any] = {"batching": Batching.DYNAMIC, "max_batch_size": 256}
    two = Deployment("two", packed, engine, host=Host.CPP, **options)
    many = Deployment("many", network.spec, engine, host=Host.CPP, packed_inputs=packed.inputs, **options)
    folder = add(server, two, made)
    add_model(folder.parent, many, folder / "1" / two.model_file, links=True)
    assert server.log_path is not None
    for name in ("two", "many"):
        server.load_model(name, timeout_s=60)
    assert server.log_path.read_text().count("shares the loaded model of the same files") == 1
    random = np.random.default_rng(5)

    def ask_one(number: int) -> None:
        count = int(random.integers(1, 200)) if number % 5 else 1
        x = random_rows(network.spec, count, number)
        is_bad, is_nan, is_packed = number % 7 == 0, number % 11 == 1, number % 2 == 0
        if is_bad:
            x["item"][count // 2] = 10 + number
        if is_nan:
            x["amount"][count // 2] = np.nan
        (answer,) = ask(server, "two" if is_packed else "many", [pack(x, packed) if is_packed else x])
        if is_bad:
            told = f"item holds id {10 + number}, outside 0 .. 9 (cardinality 10)"
            assert is_nan or (f"input categorical_features: {told}" if is_packed else f"input {told}") in str(answer)
        if is_nan:
            told = "amount holds NaN, a number must be finite"
            assert is_bad or (f"input numerical_features: {told}" if is_packed else f"input {told}") in str(answer)
        if is_bad or is_nan:
            assert isinstance(answer, InferenceError)
            return
        assert isinstance(answer, dict), answer
        sums = [x[name].sum(axis=1, keepdims=True) for name in ("tags", "amount", "numerical_features")]
        np.testing.assert_allclose(answer["score"], 10 * x["item"] + sum(sums), rtol=1e-5)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask_one, range(80)))
    server.unload_model("two")
    server.wait_unloaded("two", timeout_s=30)
    ask_one(3)


def test_products_equal_those_in_process_bit_for_bit(server: TritonServer, engine: Format, tmp_path: Path) -> None:
    deployment, path = write_products("products", 64, engine, tmp_path)
    add(server, deployment, path)
    server.load_model("products", timeout_s=60)
    with loader(engine)(threads=None if engine is Format.TF_SAVEDMODEL else 2).load(path) as session:
        for count in (1, 8, 64):
            x = {"x": np.random.default_rng(count).random((count, 1), dtype=np.float32)}
            (answer,) = ask(server, "products", [x])
            assert isinstance(answer, dict)
            np.testing.assert_array_equal(answer["y"], session.infer(x)["y"])


def test_weights_are_in_huge_pages(server: TritonServer, build: Build, engine: Format, tmp_path: Path) -> None:
    if build.is_sanitized:
        pytest.skip("the sanitizers' allocator has other blocks")
    allowed = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not allowed.exists() or "[never]" in allowed.read_text():
        pytest.skip("this kernel has no transparent huge pages")

    def huge_kib() -> int:
        lines = Path(f"/proc/{server.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:"))

    before = huge_kib()
    add(server, *write_products("large", LARGE_SIZE, engine, tmp_path))
    server.load_model("large", timeout_s=60)
    assert huge_kib() - before > LARGE_SIZE**2 * 4 // 1024 // 2  # of the weights, as one engine keeps them


def test_model_with_a_wrong_number_of_output_rows_is_not_loaded(
    server: TritonServer, engine: Format, tmp_path: Path
) -> None:
    network = reshaping(doubling=True)
    spec = ModelSpec((TensorSpec("x", "float32", (2,)),), network.spec.outputs)
    add(server, Deployment("two_each", spec, engine, host=Host.CPP), network.write(engine, tmp_path / "two_each"))
    with pytest.raises(ServerError, match="output y has not one row for each row of the batch"):
        server.load_model("two_each", timeout_s=60)


@pytest.mark.parametrize("name", ["pair", "whole", "single"])
def test_answers_are_right_for_each_number_of_rows(server: TritonServer, name: str) -> None:
    """Sizes around the borders of buckets, where there is most padding and least, and past the largest."""
    borders = (1, 2, 4, 8, 16, 32, 48, 64, 80, 128, 160, 256, 384, 512, 1024)
    counts = {1, *(border + step for border in borders for step in (-1, 0, 1)), 1000} - {0}
    most = {"pair": 512, "single": 64}.get(name, 4000)
    counts |= {700, 1024, 1025, 2047, 4000}
    for count in sorted(count for count in counts if count <= most):
        x = rows(count, count)
        assert_right(ask(server, name, [x])[0], x)
        large = rows(count, count, width=700)  # not copied, but for the last chunk
        assert_right(ask(server, name, [large])[0], large)


def test_model_without_batching_gets_requests_unchanged(server: TritonServer) -> None:
    x = rows(700)
    assert_right(ask(server, "whole", [x])[0], x)
    x["item"] = x["item"][:1]
    (answer,) = ask(server, "whole", [x])
    assert "the inputs of a request have [1, 700] rows: they must agree" in str(answer)


def test_answer_has_only_the_requested_outputs(server: TritonServer) -> None:
    x = rows(3)
    for client, url in ((http, server.http_url), (grpc, server.grpc_url)):
        with closing(client.InferenceServerClient(url.partition("://")[2])) as connection:
            inputs = [client.InferInput(name, a.shape, grpc.np_to_triton_dtype(a.dtype)) for name, a in x.items()]
            for tensor, array in zip(inputs, x.values(), strict=True):
                tensor.set_data_from_numpy(array)
            answer = connection.infer("single", inputs, outputs=[client.InferRequestedOutput("twice")])
            np.testing.assert_array_equal(answer.as_numpy("twice"), 2 * x["item"])
            assert answer.as_numpy("score") is None


def test_undivided_rows_is_zero_or_more(server: TritonServer, engine: Format, model: Path) -> None:
    none = {"undivided_rows": "0", "threads": "2"}
    folder = add(server, Deployment("divided", SPEC, engine, host=Host.CPP, backend_parameters=none), model)
    server.load_model("divided", timeout_s=60)
    x = rows(1)
    assert_right(ask(server, "divided", [x])[0], x)
    server.unload_model("divided")  # the server would wait for it at its end
    server.wait_unloaded("divided", timeout_s=30)
    config = folder / "config.pbtxt"
    config.write_text(config.read_text().replace('string_value: "0"', 'string_value: "-1"'))
    with pytest.raises(ServerError, match="parameter undivided_rows is -1: use 0 or more"):
        server.load_model("divided", timeout_s=60)


def test_impossible_number_of_rows_fails_its_request_and_not_the_rest_of_the_batch(server: TritonServer) -> None:
    batches = [rows(1, seed, width=4) for seed in range(JOINED_ROWS - 1)]
    with ThreadPoolExecutor(1) as pool:
        bad = pool.submit(answer_of, server, "joined", rows(1, width=4), LIKE_NONE, "grpc")
        wait([bad], timeout=0.5)
        for x, answer in zip(batches, ask(server, "joined", batches), strict=True):
            assert_right(answer, x)
        assert "input item has another shape than the model takes" in bad.result()
    assert "impossible shape" in answer_of(server, "whole", rows(1, width=4), LIKE_ONE, "grpc")


def test_rows_without_any_value_are_refused(server: TritonServer, engine: Format, tmp_path: Path) -> None:
    """Such a request of few bytes could claim any number of rows."""
    network = reshaping(doubling=False)
    options: dict[str, Any] = {"batching": Batching.DISABLED}
    add(
        server,
        Deployment("empty", network.spec, engine, host=Host.CPP, **options),
        network.write(engine, tmp_path / "e"),
    )
    server.load_model("empty", timeout_s=60)
    told = answer_of(server, "empty", {"x": np.empty((1, 0), np.float32)}, 2**40, "grpc")
    assert "hold no values" in told


def test_cardinality_of_any_range_is_told(server: TritonServer, engine: Format, model: Path) -> None:
    item, tags, wide = SPEC.inputs
    spec = ModelSpec((item, replace(tags, value_range=(-1, 2**63 - 1)), wide), SPEC.outputs)
    add(server, Deployment("boundless", spec, engine, host=Host.CPP, max_batch_size=8), model)
    server.load_model("boundless", timeout_s=60)
    x = rows(2)
    x["tags"][1, 1] = -2
    (answer,) = ask(server, "boundless", [x])
    assert "input tags holds id -2, outside -1 .. 9223372036854775807 (cardinality 9223372036854775808)" in str(answer)


@contextlib.contextmanager
def changing(server: TritonServer, ids: Array) -> Iterator[http.InferInput]:
    """An input ``item`` of int64 in shared memory, which changes while the block runs: by turns all ids are 7, or a
    number far outside their table."""
    name = f"changing_{uuid.uuid4().hex}"
    region = shared_memory.create_shared_memory_region(name, f"/{name}", ids.nbytes)
    url, headers, ends = server.http_url.partition("://")[2], key_headers(server), threading.Event()

    def change() -> None:
        mapped = np.memmap(f"/dev/shm/{name}", np.int64, shape=ids.shape)
        for item in itertools.cycle((7, FAR)):
            mapped[:] = item
            if ends.wait(0.002):
                return

    writer = threading.Thread(target=change)
    with closing(http.InferenceServerClient(url)) as client:
        client.register_system_shared_memory(name, f"/{name}", ids.nbytes, headers=headers)
        shared_memory.set_shared_memory_region(region, [ids])
        writer.start()
        try:
            shared = http.InferInput("item", ids.shape, "INT64")
            shared.set_shared_memory(name, ids.nbytes)
            yield shared
        finally:
            ends.set()
            writer.join()
            client.unregister_system_shared_memory(name, headers=headers)
            shared_memory.destroy_shared_memory_region(region)


def answers_to(server: TritonServer, name: str, x: Arrays, shared: http.InferInput) -> Iterator[Arrays]:
    """Answers to many requests with these inputs and the shared one; each is an answer or tells the id far outside."""
    inputs = [http.InferInput(key, a.shape, grpc.np_to_triton_dtype(a.dtype)) for key, a in x.items()]
    for tensor, array in zip(inputs, x.values(), strict=True):
        tensor.set_data_from_numpy(array)
    refusals = 0
    with closing(http.InferenceServerClient(server.http_url.partition("://")[2])) as client:
        for _ in range(60):
            try:
                answer = client.infer(name, [shared, *inputs])
            except InferenceServerException as error:
                # One of the two, or half of each: 64 bits may be written in parts.
                assert re.search(r"input item holds id \d+, outside 0 \.\. 9", str(error))
                refusals += 1
            else:
                yield {one["name"]: answer.as_numpy(one["name"]) for one in answer.get_response()["outputs"]}
    assert 0 < refusals < 60, "only good or only bad ids were seen, so the test shows nothing"


def test_ids_that_change_in_shared_memory_are_those_that_were_checked(server: TritonServer) -> None:
    x = rows(20_000)
    x["item"][:] = 7
    with changing(server, x["item"]) as shared:
        for answer in answers_to(server, "whole", {name: x[name] for name in ("tags", "wide")}, shared):
            assert_right(answer, x)


def test_ids_that_change_while_they_are_packed_are_those_that_were_checked(
    server: TritonServer, engine: Format, tmp_path: Path
) -> None:
    network = ranking()
    source, packed = network.write(engine, tmp_path / "ranking"), packed_spec(network.spec)
    made = tmp_path / ("packed" if engine is Format.OPENVINO else source.name)
    made.mkdir() if engine is Format.OPENVINO else None
    packer(engine)().convert(source, made)
    options: dict[str, Any] = {"batching": Batching.DYNAMIC, "max_batch_size": 20_000}
    deployment = Deployment("packing", network.spec, engine, host=Host.CPP, packed_inputs=packed.inputs, **options)
    add(server, deployment, made)
    server.load_model("packing", timeout_s=60)
    x = random_rows(network.spec, 20_000, 3)
    x["item"][:] = 7
    sums = [x[name].sum(axis=1, keepdims=True) for name in ("tags", "amount", "numerical_features")]
    others = {name: array for name, array in x.items() if name != "item"}
    with changing(server, x["item"]) as shared:
        for answer in answers_to(server, "packing", others, shared):
            np.testing.assert_allclose(answer["score"], 70 + sum(sums), rtol=1e-5)


def test_large_inputs_in_shared_memory_are_read_in_place(server: TritonServer) -> None:
    """These inputs are not copied, so the host must notice when they change, move, or are followed by a small
    request."""
    x = rows(40, 0, width=4_000)
    size = x["wide"].nbytes
    region = shared_memory.create_shared_memory_region("cpp_host_wide", "/cpp_host_wide", 2 * size)
    client = http.InferenceServerClient(server.http_url.partition("://")[2])
    headers = key_headers(server)
    try:
        client.register_system_shared_memory("cpp_host_wide", "/cpp_host_wide", 2 * size, headers=headers)
        for seed, offset in ((1, 0), (2, 0), (3, size), (4, size - 4), (5, 0)):
            x = rows(40, seed, width=4_000)
            shared_memory.set_shared_memory_region(region, [x["wide"]], offset=offset)
            inputs = [http.InferInput(name, a.shape, grpc.np_to_triton_dtype(a.dtype)) for name, a in x.items()]
            for tensor, array in zip(inputs[:2], (x["item"], x["tags"]), strict=True):
                tensor.set_data_from_numpy(array)
            inputs[2].set_shared_memory("cpp_host_wide", size, offset=offset)
            answer = client.infer("pair", inputs)
            assert_right({name: answer.as_numpy(name) for name in ("score", "twice")}, x)
            small = rows(seed, seed)
            assert_right(ask(server, "pair", [small])[0], small)
    finally:
        client.unregister_system_shared_memory("cpp_host_wide", headers=headers)
        client.close()
        shared_memory.destroy_shared_memory_region(region)


def test_unloaded_model_leaves_memory_and_loads_again(server: TritonServer) -> None:
    maps = Path(f"/proc/{server.pid}/maps")

    def ask_at_once(count: int) -> Array:
        x = rows(count, count)
        assert_right(ask(server, "whole", [x])[0], x)
        return x["item"]

    for _ in range(2):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ask_at_once, range(1, 20)))
        server.unload_model("whole")
        server.wait_unloaded("whole", timeout_s=30)
        assert "/whole/1/" not in maps.read_text()
        server.load_model("whole", timeout_s=60)


def test_unreadable_model_fails_to_load_with_the_reason(server: TritonServer, engine: Format, model: Path) -> None:
    version = add(server, Deployment("broken", SPEC, engine, host=Host.CPP), model) / "1"
    found = next(path for path in version.rglob("*") if path.suffix in (".xml", ".onnx", ".pb"))
    found.write_text("this is no model")
    (version / "SHA256SUMS").unlink()
    with pytest.raises(ServerError, match=r"/broken/1/model\.\w+ can't be (read|loaded): "):
        server.load_model("broken", timeout_s=60)


def test_model_whose_files_have_changed_is_not_loaded(server: TritonServer, engine: Format, model: Path) -> None:
    version = add(server, Deployment("changed", SPEC, engine, host=Host.CPP), model) / "1"
    listed = (version / "SHA256SUMS").read_text()
    for file in (version / line.split("  ")[1] for line in listed.splitlines()):
        content = file.read_bytes()
        for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1])):
            file.write_bytes(damaged)
            refused(server, rf"/{file.name} is not the file that was deployed: its SHA-256 is [0-9a-f]{{64}}, not ")
        file.unlink()
        refused(server, f"/{file.name} is missing, or can't be read: deploy the model again")
        file.write_bytes(content)
    for damage, message in ((listed[10:], "damaged in line 1"), ("", "SHA256SUMS is empty: deploy the model again")):
        (version / "SHA256SUMS").write_text(damage)
        refused(server, message)
    (version / "SHA256SUMS").write_text(listed)
    server.load_model("changed", timeout_s=60)


def refused(server: TritonServer, message: str) -> None:
    with pytest.raises(ServerError, match=message) as raised:
        server.load_model("changed", timeout_s=60)
    assert "\n" not in str(raised.value).strip()


@pytest.mark.parametrize(
    ("tensor", "told"),
    [
        (TensorSpec("wide", "float64", (-1,)), r"wide of the model is of another type|Unexpected input data type"),
        (TensorSpec("width", "float32", (-1,)), r"has no input width|Invalid input name: width"),
    ],
)
def test_model_without_a_tensor_of_the_configuration_is_not_loaded(
    server: TritonServer, engine: Format, model: Path, tensor: TensorSpec, told: str
) -> None:
    other = ModelSpec((*SPEC.inputs[:2], tensor), SPEC.outputs)
    name = f"other_{tensor.name}"
    add(server, Deployment(name, other, engine, host=Host.CPP), model)
    with pytest.raises(ServerError, match=told):
        server.load_model(name, timeout_s=60)


def test_model_with_another_type_of_output_is_not_loaded(server: TritonServer, engine: Format, model: Path) -> None:
    outputs = (TensorSpec("score", "int32", (1,)), SPEC.outputs[1])
    add(server, Deployment("retyped", ModelSpec(SPEC.inputs, outputs), engine, host=Host.CPP), model)
    with pytest.raises(ServerError, match="output score of the model is of another type than the configuration's"):
        server.load_model("retyped", timeout_s=60)


def test_server_runs_all_engines_at_once(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    with local_server(tmp_path / "repository", log_path=tmp_path / "log") as server:
        for engine in ENGINES:
            name = str(engine)
            options: dict[str, Any] = {"batching": Batching.DYNAMIC, "max_batch_size": 64}
            deployment = Deployment(name, SPEC, engine, host=Host.CPP, **options)
            add(server, deployment, summing().write(engine, tmp_path / name))
            server.load_model(name, timeout_s=60)

        def ask_all(seed: int) -> None:
            for engine in ENGINES:
                x = rows(1 + seed % 40, seed)
                assert_right(ask(server, str(engine), [x])[0], x)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(ask_all, range(60)))
