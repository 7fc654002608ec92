"""Measures bulk scoring: rows per second by number of workers, as a share of the engine's own, and memory over time.

Run from the repository's root: ``python -m benchmarks.bulk_scoring --input-path MODEL --input-type openvino``. Without
``--data-pattern`` it generates random rows of the Outbrain features. It writes ``scoring.csv`` and ``memory.csv``.
"""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Format
from deployment_toolkit.errors import require_options_at_least
from deployment_toolkit.machine import usable_cores
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.process import Child, environment, run
from deployment_toolkit.process_memory import tree_memory
from deployment_toolkit.results.tables import write_csv
from deployment_toolkit.rows.dump import Dump
from widedeep.data.random_parquet import write_random_parquet
from widedeep.features.options import read_feature_spec

_FILE_ROWS = 1_000_000
_MIB = 1 << 20
_TAIL = 3  # memory is compared in the second and the last third of the time


@dataclass(frozen=True)
class ScoringBenchmarkOptions:
    """Options of the benchmark."""

    input_path: Path = option("stored model")
    input_type: Format = option("its format")
    data_pattern: str | None = option("files to score; default: generated ones", None)
    feature_spec: Path | None = option("their specification (YAML); default: the Outbrain features", None)
    rows: int = option("rows of the generated files", 10_000_000)
    workers: list[int] = option("numbers of workers; 0: in one process, without Dask", [0, 1, 2])
    rows_per_part: int = option("largest number of rows of a part", 1_048_576)
    batch_size: int = option("rows of an inference", 4096)
    engine_seconds: float = option("seconds for which the engine alone is measured, before and after", 10.0)
    sample_seconds: float = option("seconds between two readings of the memory, which cost some of the speed", 2.0)
    output_dir: Path = option(
        "folder of the CSV files, and for the data and the scores meanwhile", Path("bulk_scoring")
    )

    def __post_init__(self) -> None:
        require_options_at_least(self, ("rows", "rows_per_part", "batch_size"), 1)


@dataclass(frozen=True)
class ScoringMeasurement:
    """A scoring of all rows: seconds from the command's start to its end, and its speed. ``engine_rows_per_s`` is the
    engine's alone, with all cores, the better of before and after; ``share`` is the speed's share of it. ``peak_mib``
    is of all processes (each page counted once); ``middle_mib`` and ``late_mib`` are the peaks of the second and of the
    last third of the time."""

    workers: int
    rows: int
    seconds: float
    rows_per_s: float
    engine_rows_per_s: float
    share: float
    peak_mib: float
    middle_mib: float
    late_mib: float


@dataclass(frozen=True)
class MemoryReading:
    """Memory of all processes of a scoring at a moment."""

    workers: int
    seconds: float
    mib: float


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, ScoringBenchmarkOptions)
    options = from_args(ScoringBenchmarkOptions, parser.parse_args(argv))
    _describe(argv)
    folder = options.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    own_pattern = options.data_pattern is None
    pattern = options.data_pattern or _generated(options, folder / "data")
    measurements, readings = [], []
    for workers in options.workers:
        measurement, memory = _measure(options, pattern, workers)
        measurements.append(measurement)
        readings += memory
        print(
            f"{workers} workers: {measurement.rows_per_s:,.0f} rows/s, {measurement.share:.3f} of the engine's "
            f"{measurement.engine_rows_per_s:,.0f}; {measurement.seconds:.1f} s; peak {measurement.peak_mib:,.0f} MiB, "
            f"second third {measurement.middle_mib:,.0f}, last {measurement.late_mib:,.0f}",
            flush=True,
        )
        write_csv(folder / "scoring.csv", [asdict(item) for item in measurements])
        write_csv(folder / "memory.csv", [asdict(item) for item in readings])
    if own_pattern:
        shutil.rmtree(folder / "data")
    print(f"written to {folder}")


def _describe(argv: list[str]) -> None:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ":")
    print(f"command   python -m benchmarks.bulk_scoring {shlex.join(argv)}")
    print(f"machine   {cpu.split(':', 1)[1].strip()}, {usable_cores()} cores, {platform.platform()}")
    packages = ("openvino", "onnxruntime", "pyarrow", "numpy", "distributed")
    print(f"versions  Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in packages)}")


def _generated(options: ScoringBenchmarkOptions, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    spec = read_feature_spec(options.feature_spec)
    for number, start in enumerate(range(0, options.rows, _FILE_ROWS)):
        rows = min(_FILE_ROWS, options.rows - start)
        write_random_parquet(folder / f"part_{number}.parquet", rows, spec=spec, seed=number)
    return str(folder / "part_*.parquet")


def _measure(
    options: ScoringBenchmarkOptions, pattern: str, workers: int
) -> tuple[ScoringMeasurement, list[MemoryReading]]:
    folder = options.output_dir
    scores = folder / f"scores_{workers}"
    shutil.rmtree(scores, ignore_errors=True)
    before = _engine_rows_per_s(options, pattern)
    command = [sys.executable, str(ROOT / "score_dataset.py"), *_model_and_data(options, pattern)]
    command += ["--output-dir", str(scores), "--rows-per-part", str(options.rows_per_part)]
    command += ["--batch-size", str(options.batch_size), *(["--n-workers", str(workers)] if workers else [])]
    readings: list[MemoryReading] = []
    started = time.monotonic()

    def watch(process: Child) -> None:
        mib = tree_memory(process.pid).pss_bytes / _MIB
        readings.append(MemoryReading(workers, time.monotonic() - started, mib))

    log = folder / f"score_dataset_{workers}.log"
    seconds = run(command, log_path=log, env=_environment(), watch=watch, poll_s=options.sample_seconds).seconds
    rows = Dump(scores).rows
    shutil.rmtree(scores)
    engine = max(before, _engine_rows_per_s(options, pattern))
    thirds = [[item.mib for item in readings if item.seconds * _TAIL // seconds == third] for third in range(_TAIL)]
    measurement = ScoringMeasurement(
        workers=workers,
        rows=rows,
        seconds=seconds,
        rows_per_s=rows / seconds,
        engine_rows_per_s=engine,
        share=rows / seconds / engine,
        peak_mib=max(item.mib for item in readings),
        middle_mib=max(thirds[1], default=0.0),
        late_mib=max(thirds[2], default=0.0),
    )
    return measurement, readings


def _engine_rows_per_s(options: ScoringBenchmarkOptions, pattern: str) -> float:
    command = [sys.executable, "-m", "benchmarks.bars.engine", *_model_and_data(options, pattern)]
    command += ["--rows-per-call", str(options.batch_size), "--seconds", str(options.engine_seconds)]
    command += ["--threads", str(usable_cores())]
    output = run(command, log_path=options.output_dir / "engine.log", env=_environment()).stdout
    return float(json.loads(output.splitlines()[-1])[str(options.batch_size)])


def _model_and_data(options: ScoringBenchmarkOptions, pattern: str) -> list[str]:
    command = ["--input-path", str(options.input_path), "--input-type", str(options.input_type)]
    command += ["--dataloader", str(ROOT / "dataloader.py"), "--data-pattern", pattern]
    return command if options.feature_spec is None else [*command, "--feature-spec", str(options.feature_spec)]


def _environment() -> dict[str, str]:
    return environment(None, prepend={"PYTHONPATH": [ROOT]})


if __name__ == "__main__":
    run_entry_point(main)
