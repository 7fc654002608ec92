"""Option ``--packed-inputs``, from the exported model to the answers of a server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import check_correctness
import run_inference_on_fw
import run_inference_on_triton
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Arrays, DataloaderModule, EvaluationMode, Format, ModelSpec
from deployment_toolkit.deploying.model_config import parse_config
from deployment_toolkit.errors import UsageError
from deployment_toolkit.library.registry import converter, loader
from deployment_toolkit.options.plugins import load_module
from deployment_toolkit.packing import pack, packed_spec
from deployment_toolkit.rows.dump import Dump
from deployment_toolkit.triton_performance_runner.options import PerformanceOptions
from deployment_toolkit.triton_performance_runner.repository_target import find_repository_target
from deployment_toolkit.triton_performance_runner.sweep import measure
from deployment_toolkit.triton_server.remote import TritonServer
from navigator.__main__ import main
from tests.asking import ask
from tests.small_networks import ENGINES

Arguments = Callable[..., list[str]]
Outcome = Callable[[], dict[str, Any]]
Served = tuple[TritonServer, Path]

NAME = "packed"
LOAD = ["--load-model", "--host", "python", "--max-batch-size", "64", "--batching", "dynamic", "--packed-inputs"]
DOCS = ROOT / "docs" / "packed-inputs.md"


@pytest.fixture(scope="module")
def spec(tiny_savedmodel: Path) -> ModelSpec:
    """Signature of the tiny network."""
    found: ModelSpec = loader(Format.TF_SAVEDMODEL)().read_spec(tiny_savedmodel)
    return found


@pytest.fixture(scope="module")
def served(server: Served, tiny_savedmodel: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The tiny network, deployed with packed inputs."""
    running, repository = server
    where = ["--workspace-path", str(tmp_path_factory.mktemp("workspace")), "--model-repository", str(repository)]
    model = ["--model-name", NAME, "--model-path", str(tiny_savedmodel), "--server-url", running.grpc_url]
    main(["triton-config-model", *where, *model, *LOAD])
    return server


def test_server_describes_two_tensors_and_their_columns(served: Served, spec: ModelSpec) -> None:
    running, repository = served
    assert running.model_spec(NAME) == packed_spec(spec)
    config = parse_config((repository / NAME / "config.pbtxt").read_text())
    assert [(tensor.name, list(tensor.dims)) for tensor in config.input] == [
        ("categorical_features", [5]),
        ("numerical_features", [2]),
    ]


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_dump_of_packed_requests_agrees_with_the_frameworks(
    scheme: str, served: Served, tiny_options: list[str], tiny_rows: list[str], tiny_folder: Path, tmp_path: Path
) -> None:
    rows = [*tiny_rows, "--batch-size", "50"]
    kept = ["--dump-labels", "--dump-inputs", "--output-dir"]
    run_inference_on_fw.main([*tiny_options, *rows, *kept, str(tmp_path / "framework")])
    url = served[0].grpc_url if scheme == "grpc" else served[0].http_url
    features = ["--feature-spec", str(tiny_folder / "feature_spec.yaml"), "--request-rows", "1", "7"]
    asked = ["--server-url", url, "--model-name", NAME, *rows, *features]
    run_inference_on_triton.main([*asked, *kept, str(tmp_path / "served")])
    limits = ["--reference-dump-dir", str(tmp_path / "framework"), "--atol", "1e-5", "--rtol", "1e-5"]
    metrics = ["--metrics", str(ROOT / "metrics.py"), "--csv", str(tmp_path / "correctness.csv")]
    check_correctness.main(["--dump-dir", str(tmp_path / "served"), *limits, *metrics])
    first = next(iter(Dump(tmp_path / "served").predictions()))
    assert {"ad", "price", "tags"} <= first.batch.x.keys()


def test_id_outside_its_table_is_refused_by_its_feature(served: Served, spec: ModelSpec) -> None:
    x = {
        "price": np.zeros((3, 1), np.float32),
        "ad_age": np.zeros((3, 1), np.float32),
        "zone": np.zeros((3, 1), np.int32),
        "ad": np.array([[0], [20], [1]], np.int32),
        "tags": np.full((3, 3), -1, np.int32),
    }
    packed = pack(x, packed_spec(spec))
    good = {name: array[:1] for name, array in packed.items()}
    bad, answer = ask(served[0], NAME, [packed, good])
    assert "input categorical_features: ad holds id 20, outside 0 .. 19 (cardinality 20)" in str(bad)
    assert isinstance(answer, dict)


@pytest.mark.parametrize(("mode", "real"), [(EvaluationMode.OFFLINE, True), (EvaluationMode.ONLINE, False)])
def test_performance_is_measured(
    mode: EvaluationMode, real: bool, served: Served, tiny_folder: Path, tmp_path: Path
) -> None:
    module = load_module(ROOT / "dataloader.py", DataloaderModule)
    dataloader_fn = module.get_dataloader_fn(
        data_pattern=str(tiny_folder / "rows.parquet"), batch_size=50, feature_spec=tiny_folder / "feature_spec.yaml"
    )
    options = PerformanceOptions(
        model_name=NAME,
        server_url=served[0].grpc_url if mode is EvaluationMode.OFFLINE else served[0].http_url,
        result_path=tmp_path / "measured.csv",
        evaluation_mode=mode,
        batch_sizes=[1, 16],
        measurement_interval=200,
        stability_percentage=1e6,
    )
    table = measure(options, dataloader_fn if real else None)
    assert [row["Batch"] for row in table] == [1, 16]
    assert all(float(row["Inferences/Second"]) > 0 for row in table)


def test_model_analyzer_reads_the_columns_from_the_repository(served: Served, spec: ModelSpec, tmp_path: Path) -> None:
    options = PerformanceOptions(model_name=NAME, result_path=tmp_path / "x.csv", model_repository=served[1])
    assert find_repository_target(options).spec == packed_spec(spec)


@pytest.fixture(params=ENGINES, ids=str)
def converted(request: pytest.FixtureRequest, tiny_savedmodel: Path, tmp_path: Path) -> Path:
    """The tiny network in the format of an engine."""
    wanted = Format(request.param)
    source, path, step = Format.TF_SAVEDMODEL, tiny_savedmodel, 0
    for target in [] if wanted is source else [Format.ONNX] if wanted is Format.ONNX else [Format.ONNX, wanted]:
        made = tmp_path / f"{step}.onnx" if target is Format.ONNX else tmp_path / "openvino"
        if target is Format.OPENVINO:
            made.mkdir()
        converter(source, target)().convert(path, made)
        source, path, step = target, made, step + 1
    return path


def test_one_loaded_model_serves_both_signatures(
    server: Served, converted: Path, tiny_savedmodel: Path, spec: ModelSpec, arguments: Arguments, tmp_path: Path
) -> None:
    running, repository = server
    name = f"both_{converted.name.partition('.')[0]}"
    names = [name, f"{name}_separate"]
    options = ["--host", "cpp", "--packed-inputs", "--separate-inputs-name", names[1], "--load-model", "--batching"]
    options += ["dynamic", "--max-batch-size", "64", "--server-url", running.grpc_url]
    assert running.log_path is not None
    shared = running.log_path.read_text().count("shares the loaded model of the same files")
    main([*arguments(converted, repository, *options, name=name), "--workspace-path", str(tmp_path / "workspace")])
    assert running.log_path.read_text().count("shares the loaded model of the same files") == shared + 1
    assert [running.model_spec(one) for one in names] == [packed_spec(spec), spec]
    random = np.random.default_rng(13)

    def rows(count: int) -> Arrays:
        ids = {one.name: one.value_range for one in spec.inputs if one.value_range is not None}
        return {
            one.name: random.integers(ids[one.name][0], ids[one.name][1] + 1, (count, *one.shape)).astype(one.dtype)
            if one.name in ids
            else random.random((count, *one.shape)).astype(one.dtype)
            for one in spec.inputs
        }

    with loader(Format.TF_SAVEDMODEL)().load(tiny_savedmodel) as session:
        for count in (1, 2, 7, 33, 64):
            x = rows(count)
            (packed,), (separate,) = ask(running, names[0], [pack(x, packed_spec(spec))]), ask(running, names[1], [x])
            assert isinstance(packed, dict) and isinstance(separate, dict)
            for output, expected in session.infer(x).items():
                np.testing.assert_array_equal(packed[output], separate[output])
                np.testing.assert_allclose(packed[output], expected, rtol=1e-5)
    bad = rows(3)
    bad["ad"][1] = 20
    (refused,), (also,) = ask(running, names[0], [pack(bad, packed_spec(spec))]), ask(running, names[1], [bad])
    assert "input categorical_features: ad holds id 20, outside 0 .. 19 (cardinality 20)" in str(refused)
    assert "input ad holds id 20, outside 0 .. 19 (cardinality 20)" in str(also)
    running.unload_model(names[0])
    running.wait_unloaded(names[0], timeout_s=30)
    assert isinstance(ask(running, names[1], [rows(5)])[0], dict)


def test_second_signature_needs_the_cpp_host(model: Path, tmp_path: Path, arguments: Arguments) -> None:
    options = ["--packed-inputs", "--separate-inputs-name", "other"]
    for host in ("auto", "native", "python"):
        with pytest.raises(UsageError, match="--separate-inputs-name needs --packed-inputs and --host cpp"):
            main(arguments(model, tmp_path / "store", *options, "--host", host))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_client_of_the_page_is_answered(protocol: str, served: Served) -> None:
    programs = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (program,) = [text for text in programs if f"tritonclient.{protocol} as" in text]
    assert len([line for line in program.splitlines() if line and not line.startswith("import")]) == 9
    url = served[0].http_url if protocol == "http" else served[0].grpc_url
    program = re.sub(r'"localhost:\d+"', repr(url.partition("://")[2]), program).replace("WidenDeep", NAME)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout.strip("[]\n ")) < 1


def test_packed_copy_is_made_once_and_served_in_place_of_the_model(
    server: Served, model: Path, arguments: Arguments, outcome: Outcome
) -> None:
    running, repository = server
    argv = arguments(model, repository, *LOAD, "--server-url", running.grpc_url, name="copies")
    main(argv)
    made = Path("navigator_workspace/hosted/onnx-packed.onnx")
    written = made.stat().st_mtime_ns
    main(argv)
    assert made.stat().st_mtime_ns == written
    assert (outcome()["model"], outcome()["config"]) == ("reused", "reused")
    argv.remove("--packed-inputs")
    main(argv)
    assert outcome()["model"] == "written"
    assert [tensor.name for tensor in running.model_spec("copies").inputs] == ["amount", "item", "tags"]


def test_packed_model_is_deployed_as_it_is(model: Path, tmp_path: Path, arguments: Arguments, outcome: Outcome) -> None:
    main(arguments(model, tmp_path / "store", "--packed-inputs"))
    copy = tmp_path / "navigator_workspace" / "hosted" / "onnx-packed.onnx"
    given = copy.rename(tmp_path / "given.onnx")
    main(arguments(given, tmp_path / "store", "--packed-inputs"))
    assert (outcome()["model"], copy.exists()) == ("reused", False)


def test_what_can_not_be_packed_is_refused(
    open_model: Path, tmp_path: Path, arguments: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"input x can't be packed: its rows are of the free shape \[-1\]"):
        main(arguments(open_model, tmp_path / "store", "--packed-inputs"))
    plan = tmp_path / "made.plan"
    plan.mkdir()
    (plan / "model.plan").write_bytes(b"")
    signature = ["--inputs", "x:-1,1:float32", "--outputs", "y:-1,1:float32"]
    with pytest.raises(UsageError, match="--packed-inputs: only tf-savedmodel, onnx, openvino can be changed, not trt"):
        main(arguments(plan, tmp_path / "store", "--packed-inputs", *signature))
    assert not (tmp_path / "store").exists()
