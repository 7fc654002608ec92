"""Measures rows per second of the parquet loader, and its peak memory for two sizes of data set, which must be equal.

Run from the repository's root: ``python benchmarks/loader.py``. Without ``--data-pattern`` it generates random rows of
the Outbrain features. Each measurement runs in a separate process.
"""

from __future__ import annotations

import json
import platform
import shlex
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from deployment_toolkit.errors import require_options_at_least
from deployment_toolkit.machine import usable_cores
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.process import run
from deployment_toolkit.results.tables import write_csv
from widedeep.data.parquet import ParquetDataset
from widedeep.data.random_parquet import write_random_parquet
from widedeep.features.options import read_feature_spec


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of the benchmark."""

    data_pattern: str | None = option("files to read; default: generated ones", None)
    feature_spec: Path | None = option("their specification (YAML); default: the Outbrain features", None)
    rows: int = option("rows of the generated files; memory is also measured with four times as many", 1_000_000)
    batch_sizes: list[int] = option("batch sizes", [4096, 16384, 131072])
    repeats: int = option("passes per batch size; the median counts", 5)
    csv: Path = option("file to write", Path("loader.csv"))
    measure: bool = option("measure one pattern and print JSON; how the benchmark calls itself", False)

    def __post_init__(self) -> None:
        require_options_at_least(self, ("rows", "repeats"), 1)


@dataclass(frozen=True)
class Measurement:
    """Speeds in rows/s: median, slowest and fastest pass. ``peak_mib`` is the peak of the whole process."""

    rows: int
    batch_size: int
    rows_per_s: float
    slowest: float
    fastest: float
    peak_mib: float


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, BenchmarkOptions)
    options = from_args(BenchmarkOptions, parser.parse_args(argv))
    if options.measure:
        print(json.dumps(asdict(measure(options))))
        return
    describe(argv)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            _in_own_process(options, pattern, batch_size, Path(folder) / f"measure_{number}_{batch_size}.log")
            for number, pattern in enumerate(_patterns(options, Path(folder)))
            for batch_size in options.batch_sizes
        ]
    print(f"{'rows':>12} {'batch':>8} {'rows/s':>12} {'slowest':>12} {'fastest':>12} {'peak MiB':>9}")
    for row in rows:
        speeds = f"{row.rows_per_s:>12.0f} {row.slowest:>12.0f} {row.fastest:>12.0f}"
        print(f"{row.rows:>12} {row.batch_size:>8} {speeds} {row.peak_mib:>9.0f}")
    write_csv(options.csv, [asdict(row) for row in rows])
    print(f"written to {options.csv}")


def describe(argv: list[str]) -> None:
    """Prints the machine, the versions and the command of the measurement."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ":")
    print(f"command   python benchmarks/loader.py {shlex.join(argv)}")
    print(f"machine   {cpu.split(':', 1)[1].strip()}, {usable_cores()} cores, {platform.platform()}")
    print(f"versions  Python {platform.python_version()}, pyarrow {version('pyarrow')}, numpy {version('numpy')}")


def measure(options: BenchmarkOptions) -> Measurement:
    """Reads a data set ``repeats`` times in batches of the first size."""
    assert options.data_pattern is not None
    batch_size = options.batch_sizes[0]
    dataset = ParquetDataset(options.data_pattern, read_feature_spec(options.feature_spec))
    speeds = []
    for _ in range(options.repeats):
        started = time.perf_counter()
        rows = sum(len(batch) for batch in dataset.batches(batch_size))
        speeds.append(rows / (time.perf_counter() - started))
    return Measurement(rows, batch_size, statistics.median(speeds), min(speeds), max(speeds), _peak_mib())


def _in_own_process(options: BenchmarkOptions, pattern: str, batch_size: int, log_path: Path) -> Measurement:
    argv: list[str | Path] = [sys.executable, Path(__file__), "--measure", "--data-pattern", pattern]
    argv += ["--batch-sizes", str(batch_size), "--repeats", str(options.repeats)]
    if options.feature_spec is not None:
        argv += ["--feature-spec", options.feature_spec]
    return Measurement(**json.loads(run(argv, log_path=log_path).stdout))


def _patterns(options: BenchmarkOptions, folder: Path) -> list[str]:
    if options.data_pattern is not None:
        return [options.data_pattern]
    spec = read_feature_spec(options.feature_spec)
    for number in range(4):
        write_random_parquet(folder / f"part_{number}.parquet", options.rows, spec=spec, seed=number)
    return [str(folder / "part_0.parquet"), str(folder / "part_*.parquet")]


def _peak_mib() -> float:
    """Peak memory of this program only: ru_maxrss would also count the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    run_entry_point(main)
