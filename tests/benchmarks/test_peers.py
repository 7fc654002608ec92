from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.deployment import PerfPoint
from benchmarks.peers.environments import make_environment, pinned_version
from benchmarks.peers.load import read_report
from benchmarks.peers.peer import PEERS, Launch
from benchmarks.peers.pictures import comparison_png
from benchmarks.peers.readme import END, START, put_between_markers
from benchmarks.peers.results import OURS, PACKED, Cell, Failure, Run, first_in, ratio_to_best_peer, values_of
from benchmarks.peers.sample import Sample, write_bodies
from benchmarks.peers.tables import LOST, PeerComparison, SystemNote, comparison_markdown
from benchmarks.peers.wire import KSERVE_BASE64, KSERVE_BINARY, NUMBERS, RECORDS, kserve_packed
from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.errors import DataError, PerformanceError
from deployment_toolkit.packing import IDS, packed_spec
from deployment_toolkit.packing import NUMBERS as PACKED_NUMBERS

X = {
    "price": np.array([[0.5], [1e-7], [3.25]], np.float32),
    "ad": np.array([[7], [0], [249_999]], np.int32),
    "tags": np.array([[1, -1, -1], [2, 3, -1], [4, 5, 6]], np.int32),
}


def a_run(system: str, rows: int, rate: float, attempt: int = 1, **changes: float) -> Run:
    """A measurement with 64 requests in flight."""
    values = {"p50_ms": 2.0, "p99_ms": 20.0, "requests": 100, "errors": 0, "memory_mib": 100.0} | changes
    return Run("onnx:fp32", system, attempt, rows, 64, 100.0, rate, largest_difference=1e-7, **values)  # type: ignore[arg-type]


RUNS = [
    *(a_run(OURS, 1, rate, attempt, memory_mib=rate) for attempt, rate in enumerate((90.0, 110.0, 300.0))),
    a_run("FastAPI", 1, 100.0, errors=3),
    a_run("LitServe", 1, 50.0),
    a_run(OURS, 32, 1000.0),
    a_run(PACKED, 32, 2500.0),
    a_run("FastAPI", 32, 1250.0),
]


def test_cell_value_is_the_median_and_lost_cells_are_found() -> None:
    values = values_of(RUNS, "onnx:fp32")
    one, many = Cell(1, 64), Cell(32, 64)
    assert values[OURS][one].rows_per_s == 110.0
    assert values["FastAPI"][one].errors == 3
    assert (first_in(values, one), first_in(values, many)) == (OURS, PACKED)
    assert ratio_to_best_peer(values, one, OURS) == pytest.approx(1.1)
    assert ratio_to_best_peer(values, many, OURS) == pytest.approx(0.8)
    assert ratio_to_best_peer(values, many, PACKED) == pytest.approx(2.0)
    assert ratio_to_best_peer(values, one, PACKED) is None
    assert values_of(RUNS, "another") == {}


def test_comparison_shows_best_lost_errors_and_failures() -> None:
    notes = [
        SystemNote(name, "1", "settings", "payload") for name in (OURS, PACKED, "FastAPI", "LitServe", "Ray Serve")
    ]
    failures = [Failure("onnx:fp32", "Ray Serve", "can't be installed"), Failure("onnx:fp32", "FastAPI", "it died", 2)]
    skipped = {"openvino:int8": "this CPU has no instructions"}
    perf = {
        ("onnx:fp32", OURS): {(1, 64): PerfPoint(105.4, 21.0)},
        ("onnx:fp32", PACKED): {(32, 64): PerfPoint(2405.4, 31.0)},
    }
    text = comparison_markdown(
        PeerComparison({"date": "today"}, {"onnx:fp32": "ONNX"}, notes, RUNS, failures, perf, skipped)
    )
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert "**110** (2.00 / 20)" in lines["64 × 1"]
    assert "100 (2.00 / 20, 3 errors)" in lines["64 × 1"]
    assert "105 (21.00)" in lines["64 × 1"]
    assert f"1,000 (2.00 / 20) {LOST}" in lines["64 × 32"]
    for shown in "0.80", "**2,500** (2.00 / 20)", "2,405 (31.00)", "2.00", "1,250 (2.00 / 20)":
        assert shown in [part.strip() for part in lines["64 × 32"].split("|")]
    lost = "Lost: 64 × 32 (0.80 of the best peer's rows)."
    assert f"- {OURS}: faster than every peer in 1 of 2 cells. {lost}\n" in text
    assert f"- {PACKED}: faster than every peer in 1 of 1 cells.\n" in text
    assert "- Ray Serve: can't be installed\n- FastAPI, pass 2: it died" in text
    assert "**openvino int8**: skipped, this CPU has no instructions" in text
    assert "- date: today" in text


def test_comparison_picture_is_a_png() -> None:
    values = values_of(RUNS, "onnx:fp32")
    picture = comparison_png(values, [OURS, PACKED, "FastAPI", "LitServe"], "ONNX", "here")
    assert picture.startswith(b"\x89PNG")
    assert picture != comparison_png(values, [OURS, "FastAPI", "LitServe"], "ONNX", "here")


def test_records_encoding_is_read_back_unchanged() -> None:
    record = np.dtype([("ad", "<i4", (1,)), ("price", "<f4", (1,)), ("tags", "<i4", (3,))])
    rows = np.frombuffer(RECORDS.encode(X).content, record)
    for name, array in X.items():
        np.testing.assert_array_equal(rows[name], array)


def test_protocols_carry_the_same_numbers() -> None:
    numbers = np.array(json.loads(NUMBERS.encode(X).content)["rows"], np.float32)
    np.testing.assert_array_equal(numbers, np.hstack([X["ad"], X["price"], X["tags"]]).astype(np.float32))
    body = KSERVE_BINARY.encode(X)
    header = json.loads(body.content[: int(body.headers["Inference-Header-Content-Length"])])
    assert [(item["name"], item["shape"], item["datatype"]) for item in header["inputs"]] == [
        ("ad", [3, 1], "INT32"),
        ("price", [3, 1], "FP32"),
        ("tags", [3, 3], "INT32"),
    ]
    assert body.content.endswith(X["tags"].tobytes())
    inputs = tuple(TensorSpec(name, array.dtype.name, array.shape[1:]) for name, array in X.items())
    packed = kserve_packed(packed_spec(ModelSpec(inputs, outputs=()))).encode(X)
    header = json.loads(packed.content[: int(packed.headers["Inference-Header-Content-Length"])])
    assert [(item["name"], item["shape"]) for item in header["inputs"]] == [(IDS, [3, 4]), (PACKED_NUMBERS, [3, 1])]
    assert packed.content.endswith(np.hstack([X["ad"], X["tags"]]).tobytes() + X["price"].tobytes())
    element = json.loads(KSERVE_BASE64.encode(X).content)["inputs"][0]
    assert (element["shape"], element["parameters"]) == ([1], {"content_type": "base64"})


def test_request_bodies_differ_from_each_other(tmp_path: Path) -> None:
    many = {name: np.repeat(array, 40, axis=0) for name, array in X.items()}
    sample = Sample(many, np.zeros(120, np.float32))
    files = write_bodies(sample, KSERVE_BINARY, 32, tmp_path)
    assert len(files.paths) == 3
    assert len({path.read_bytes() for path in files.paths}) == 3
    assert files.mean_bytes == len(files.paths[0].read_bytes())
    with pytest.raises(DataError, match="1024 rows can't be made of the 120"):
        write_bodies(sample, KSERVE_BINARY, 1024, tmp_path)


def test_load_generator_report_is_read() -> None:
    report = {"duration_us": 2_000_000, "requests": 100, "p50_us": 1500, "p99_us": 9000, "mean_us": 1600}
    errors = {"socket_errors": 1, "status_errors": 3, "timeouts": 0}
    load = read_report("Running …\n" + json.dumps(report | errors), 32, 8)
    assert (load.rows_per_s, load.p50_ms, load.p99_ms, load.errors) == (96 * 32 / 2, 1.5, 9.0, 4)
    assert (load.requests_per_s, load.p50_us) == (96 / 2, 1500)
    assert load.seconds_needed == 1
    slow = read_report(json.dumps(report | errors | {"requests": 40}), 1024, 64)
    assert slow.seconds_needed == 16  # five rounds of 64 requests, of which 40 took 2 s
    assert read_report(json.dumps(report | errors | {"requests": 0}), 1024, 64).seconds_needed == 40
    with pytest.raises(PerformanceError, match="reported nothing"):
        read_report("unable to connect", 32, 8)


def test_readme_text_is_replaced_between_the_markers_only(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    put_between_markers(page, r"new \1")
    assert page.read_text() == f"before\n{START}\n\nnew \\1\n\n{END}\nafter\n"
    page.write_text("no place")
    with pytest.raises(DataError, match="has no place"):
        put_between_markers(page, "new")


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peer_is_pinned_and_starts_the_given_model(peer: object, tmp_path: Path) -> None:
    found = next(item for item in PEERS if item is peer)
    assert pinned_version(found.requirements, found.package)[0].isdigit()
    lines = [line for line in found.requirements.read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line for line in lines)
    model = tmp_path / "some_model.onnx"
    command = found.command(Launch(tmp_path / "bin" / "python", model, 4711, tmp_path))
    said = " ".join(map(str, command.argv)) + "".join(path.read_text() for path in tmp_path.glob("*.json"))
    assert str(model) in said
    assert "4711" in said


def test_peer_that_cannot_be_installed_is_reported(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"nothing @ file://{tmp_path}/missing.whl\n")
    with pytest.raises(PerformanceError, match="can't be installed"):
        make_environment(requirements, tmp_path / "environment")
