from __future__ import annotations

import dataclasses

import pytest

from benchmarks.bars.__main__ import exit_code
from benchmarks.bars.bar import OPENVINO, TENSORFLOW, BarSample, Cast, Quantity, Samples, outcome
from benchmarks.bars.bars import BARS
from benchmarks.bars.cpu_share import CLIENT, HOST, IDLE, OTHER, SERVER, Snapshot, shares
from benchmarks.bars.output import Provenance, bars_table, page
from benchmarks.bars.pictures import draw_bars
from benchmarks.bars.plan import RoundStep, StepKind, steps_for
from deployment_toolkit.core import Precision
from deployment_toolkit.hardware import missing_instructions

CAST = Cast(
    baseline="tf",
    offline="int8",
    single="bf16",
    online="int8",
    bf16="bf16",
    onnx="onnx",
    int8="int8",
    batches=(2048, 4096),
    online_batch=32,
    concurrency=64,
)


def _rounds(quantity: Quantity, subject: str, batch: int, *values: float, concurrency: int = 1) -> list[BarSample]:
    return [BarSample(number, quantity, subject, batch, concurrency, value) for number, value in enumerate(values, 1)]


MEASURED = Samples(
    [
        BarSample(0, Quantity.OFFLINE, "int8", 4096, 1, 1e9),  # the scouting doesn't count
        *_rounds(Quantity.OFFLINE, "tf", 2048, 30, 20, 20),
        *_rounds(Quantity.OFFLINE, "tf", 4096, 10, 25, 50),
        *_rounds(Quantity.OFFLINE, "int8", 2048, 100, 110, 120),
        *_rounds(Quantity.OFFLINE, "int8", 4096, 90, 95, 101),
        *_rounds(Quantity.OFFLINE, "bf16", 4096, 60, 60, 60),
        *_rounds(Quantity.OFFLINE_P99, "tf", 1, 3000, 4000, 5000),
        *_rounds(Quantity.OFFLINE_P99, "bf16", 1, 1000, 1000, 2000),
        *_rounds(Quantity.ONLINE, "tf", 32, 20, 20, 20, concurrency=64),
        *_rounds(Quantity.ONLINE, "int8", 32, 50, 60, 70, concurrency=64),
        *_rounds(Quantity.ONLINE_P99, "tf", 32, 100, 100, 100, concurrency=64),
        *_rounds(Quantity.ONLINE_P99, "int8", 32, 90, 90, 900, concurrency=64),
        *_rounds(Quantity.ONLINE, "int8, packed", 32, 70, 80, 90, concurrency=64),
        *_rounds(Quantity.ONLINE_P99, "int8, packed", 32, 80, 80, 80, concurrency=64),
        *_rounds(Quantity.ONLINE, "tf, Python host", 32, 16, 16, 16, concurrency=64),
        *_rounds(Quantity.ONLINE, "onnx", 32, 10, 11, 12, concurrency=64),
        *_rounds(Quantity.ONLINE, "onnx, Python host", 32, 10, 10, 10, concurrency=64),
        *_rounds(Quantity.LIGHT_P50, "tf", 1, 50, 60, 70),
        *_rounds(Quantity.LIGHT_P50, "tf, Python host", 1, 100, 100, 100),
        *_rounds(Quantity.LIGHT_P50, "onnx", 1, 70, 80, 90),
        *_rounds(Quantity.LIGHT_P50, "onnx, Python host", 1, 100, 100, 100),
        *_rounds(Quantity.LIGHT_P50, "int8, packed", 1, 50, 55, 70),
        *_rounds(Quantity.LIGHT_P50, "int8", 1, 100, 100, 100),
        *_rounds(Quantity.LIGHT_P50, "int8", 1, 1, 1, 1, concurrency=64),  # another point
        *_rounds(Quantity.LIGHT, "int8, packed", 1, 160, 180, 200, concurrency=64),
        *_rounds(Quantity.LIGHT, "int8", 1, 100, 100, 100, concurrency=64),
        *_rounds(Quantity.LIGHT, "int8, packed", 32, 110, 120, 130, concurrency=64),
        *_rounds(Quantity.LIGHT, "int8", 32, 100, 100, 100, concurrency=64),
        *_rounds(Quantity.OFFLINE, "onnx", 4096, 95, 96, 97),
        *_rounds(Quantity.ENGINE, "onnx", 4096, 100, 100, 100),
        *_rounds(Quantity.ENGINE, "tf", 4096, 40, 40, 40),
        *_rounds(Quantity.ENGINE, "int8", 2048, 100, 100, 100),
        *_rounds(Quantity.ENGINE, "int8", 4096, 100, 100, 100),
        *_rounds(Quantity.PRODUCTS, OPENVINO, 4096, 80, 64, 60),
        *_rounds(Quantity.PRODUCTS, TENSORFLOW, 4096, 90, 50, 50),
        *_rounds(Quantity.PIPELINE, "int8", 4096, 80, 86, 90),
        *[
            sample
            for instances, size in enumerate((100, 600, 610, 620))
            for sample in _rounds(Quantity.MEMORY, "int8", instances, size, size, size)
        ],
    ]
)


@pytest.mark.parametrize(
    ("key", "ratios", "met"),
    [
        ("offline", [110 / 25, 100 / 10, 120 / 50], True),  # either at its own best batch, by the medians
        ("latency", [3, 4, 2.5], True),
        ("online", [2.5, 3, 3.5], True),
        ("online-packed", [70 / 20, 80 / 20, 90 / 20], True),
        ("tensorflow-online", [20 / 16] * 3, True),
        ("tensorflow-single", [0.5, 0.6, 0.7], True),
        ("onnx-online", [1.0, 1.1, 1.2], False),
        ("onnx-single", [0.7, 0.8, 0.9], True),
        ("packed-rate", [1.6, 1.8, 2.0], True),
        ("packed-latency", [0.5, 0.55, 0.7], True),
        ("packed-rows", [1.1, 1.2, 1.3], False),
        ("served-offline", [0.9, 0.95, 1.01], True),
        ("served-tensorflow", [10 / 40, 25 / 40, 50 / 40], False),
        ("served-onnx", [0.95, 0.96, 0.97], True),
        ("served-online", [0.5, 0.6, 0.7], True),
        ("products", [60 / 80, 60 / 64, 60 / 60], True),  # the faster library by the medians
        ("memory", [(620 - 600) / 2 / 500] * 3, True),
        ("pipeline", [0.8, 0.86, 0.9], True),
    ],
)
def test_bar_ratio_is_computed_from_measured_values(key: str, ratios: list[float], met: bool) -> None:
    found = outcome(BARS[key], MEASURED, CAST)
    assert found.failure == ""
    assert sorted(found.ratios) == pytest.approx(sorted(ratios))
    assert found.met is met


def test_goal_is_a_minimum_or_a_maximum() -> None:
    memory = outcome(BARS["memory"], MEASURED, CAST)
    assert memory.bar.at_most
    assert memory.met
    assert not dataclasses.replace(memory, ratios=[0.04, 0.06, 0.06]).met
    assert not dataclasses.replace(outcome(BARS["pipeline"], MEASURED, CAST), ratios=[0.9, 0.84, 0.8]).met


def test_throughput_gain_with_a_worse_p99_misses_the_goal() -> None:
    slow = [dataclasses.replace(item, value=1e6) if item.value == 90 else item for item in MEASURED.all]
    found = outcome(BARS["online"], Samples(slow), CAST)
    assert found.median == pytest.approx(3)
    assert not found.met
    assert bars_table([found]).endswith("| no: p99 is worse |")


def test_missing_measurement_fails_the_bar() -> None:
    left = Samples(sample for sample in MEASURED.all if sample.quantity is not Quantity.PIPELINE)
    found = outcome(BARS["pipeline"], left, CAST)
    assert "pipeline, rows/s of int8 was not measured" in found.failure
    assert "| failed: pipeline" in bars_table([found])
    one_round_less = Samples(
        sample for sample in MEASURED.all if (sample.round, sample.quantity) != (3, Quantity.ENGINE)
    )
    assert "3 and 2 rounds" in outcome(BARS["served-offline"], one_round_less, CAST).failure
    assert outcome(BARS["offline"], MEASURED, CAST, "the server died").failure == "the server died"


def test_bar_of_a_missing_cpu_instruction_is_skipped() -> None:
    found = outcome(BARS["products"], MEASURED, dataclasses.replace(CAST, bf16=None))
    assert not found.met
    assert found.failure == ""
    reason = missing_instructions(Precision.BF16) or "there is no bf16 model among those measured"
    line = f"| openvino bf16, batch 4096: served ÷ its matrix products alone | ≥ 0.92 | | | skipped: {reason} |"
    assert bars_table([found]).endswith(line)
    assert draw_bars([found], "").startswith(b"\x89PNG")
    assert exit_code([found]) == 0


def test_page_shows_machine_bars_and_values() -> None:
    outcomes = [outcome(bar, MEASURED, CAST) for bar in BARS.values()]
    provenance = Provenance("a CPU, 2 cores", "2026-11-24", "python -m benchmarks.bars", {"openvino": "1.2"}, rounds=3)
    text = page(outcomes, MEASURED, CAST, provenance)
    assert "a CPU, 2 cores; 2026-11-24; openvino 1.2." in text
    assert "| int8: memory of a further instance ÷ of the first | ≤ 0.05 | 0.02 | 0.02 … 0.02 | yes |" in text
    assert "| offline, inferences/s | tf | 4096 | 1 | 25.00 | 10.00 … 50.00 |" in text


def test_round_measures_each_kind_and_subject_once() -> None:
    steps = steps_for(BARS, CAST)
    assert len({(step.kind, step.subject) for step in steps}) == len(steps)
    assert RoundStep(StepKind.OFFLINE, "tf", (1, 2048, 4096)) in steps
    assert RoundStep(StepKind.OFFLINE, "bf16", (1, 4096)) in steps
    assert RoundStep(StepKind.ENGINE, "int8", (2048, 4096)) in steps
    assert (
        RoundStep(StepKind.LIGHT, "onnx, Python host") in steps and RoundStep(StepKind.LIGHT, "int8, packed") in steps
    )
    assert steps_for(["served-online"], CAST) == [
        RoundStep(StepKind.ONLINE, "int8"),
        RoundStep(StepKind.ENGINE, "int8", (2048,)),
    ]


def test_cpu_shares_leave_out_the_start_of_the_client() -> None:
    def snapshot(time_s: float, server: float, client: float) -> Snapshot:
        seconds = {SERVER: server, HOST: 0.0, CLIENT: client, OTHER: server + client + 0.1 * time_s, IDLE: 0.4 * time_s}
        return Snapshot(time_s, seconds)

    run = [snapshot(10.0, 0.0, 0.0), snapshot(10.5, 0.0, 0.5), snapshot(11.0, 0.0, 1.0), snapshot(15.0, 4.0, 3.0)]
    cores = shares(run)
    assert cores == pytest.approx({SERVER: 1.0, HOST: 0.0, CLIENT: 0.5, OTHER: 0.1, IDLE: 0.4})
