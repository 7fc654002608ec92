"""Measurement of one step of a round: its processes, and its samples."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bars.bar import OPENVINO, TENSORFLOW, BarSample, Quantity
from benchmarks.bars.contestants import Contestant
from benchmarks.bars.cpu_share import CpuWatch
from benchmarks.bars.plan import RoundStep, StepKind
from benchmarks.bars.serving import Serving, serving
from benchmarks.repeated_rows import write_repeated
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError
from deployment_toolkit.machine import usable_cores
from deployment_toolkit.process import environment, run
from deployment_toolkit.process_memory import tree_memory
from deployment_toolkit.results.performance import BATCH, CONCURRENCY, P99, SETTLED, THROUGHPUT, PerformanceRow
from runner.serving import RunConfig, data_options
from widedeep.data.dataset_folder import DatasetFolder

INSTANCES = (1, 2, 3)
AT_ONCE = 64  # requests of the light client


@dataclass(frozen=True)
class Measuring:
    """Measurement of steps. ``seconds`` is the duration of a rate in process; ``pipeline_rows`` is the number of rows
    that the long run of the pipeline has more than the short one. ``folder`` is only for it."""

    config: RunConfig
    contestants: Mapping[str, Contestant]
    folder: Path
    online_batch: int
    concurrency: int
    seconds: float
    pipeline_rows: int
    wrk: str

    def samples(self, step: RoundStep, number: int, served: Serving | None) -> list[BarSample]:
        """Measures a step of round ``number``; all kinds except memory need the server with the contestants. Raises
        ProcessError or ServerError."""
        contestant = self.contestants[step.subject]
        if step.kind is StepKind.MEMORY:
            return list(self._memory(contestant, number))
        assert served is not None, "only memory is measured without the common server"
        match step.kind:
            case StepKind.OFFLINE:
                return list(self._offline(served, contestant, step, number))
            case StepKind.ONLINE:
                return list(self._online(served, contestant, number))
            case StepKind.LIGHT:
                return list(self._light(served, contestant, number))
            case StepKind.ENGINE:
                return list(self._engine(contestant, step, number))
            case StepKind.PRODUCTS:
                return list(self._products(contestant, step, number))
            case StepKind.PIPELINE:
                return list(self._pipeline(contestant, number))

    def _offline(self, served: Serving, contestant: Contestant, step: RoundStep, number: int) -> Iterator[BarSample]:
        for row in served.offline(contestant, step.batches):
            yield _sample(number, Quantity.OFFLINE, contestant, row, THROUGHPUT)
            yield _sample(number, Quantity.OFFLINE_P99, contestant, row, P99)

    def _online(self, served: Serving, contestant: Contestant, number: int) -> Iterator[BarSample]:
        assert served.server.pid is not None, "the server was started here"
        watch = CpuWatch(served.server.pid)
        row = served.online(contestant, self.online_batch, self.concurrency, watch)
        yield _sample(number, Quantity.ONLINE, contestant, row, THROUGHPUT)
        yield _sample(number, Quantity.ONLINE_P99, contestant, row, P99)
        for process, cores in watch.cores().items():
            point = (self.online_batch, self.concurrency)
            yield BarSample(number, Quantity.CPU, contestant.title, *point, cores, process=process)

    def _light(self, served: Serving, contestant: Contestant, number: int) -> Iterator[BarSample]:
        for rows, concurrency in ((1, 1), (1, AT_ONCE), (self.online_batch, AT_ONCE)):
            load = served.post(self.wrk, contestant, rows=rows, concurrency=concurrency, seconds=self.seconds)
            point = (contestant.title, rows, concurrency)
            yield BarSample(number, Quantity.LIGHT, *point, load.rows_per_s)
            yield BarSample(number, Quantity.LIGHT_P50, *point, load.p50_us)

    def _engine(self, contestant: Contestant, step: RoundStep, number: int) -> Iterator[BarSample]:
        argv = [
            *("-m", "benchmarks.bars.engine", "--rows-per-call", *step.batches, "--threads", _threads(contestant)),
            *("--input-path", contestant.model_path, "--input-type", contestant.parameters.format),
            *("--seconds", self.seconds, *data_options(self.config, max(step.batches))),
        ]
        for batch, rate in json.loads(self._python(argv, "engine")).items():
            yield BarSample(number, Quantity.ENGINE, contestant.title, int(batch), 1, rate)

    def _products(self, contestant: Contestant, step: RoundStep, number: int) -> Iterator[BarSample]:
        (rows,) = step.batches
        common = ["--rows", rows, "--threads", _threads(contestant), "--seconds", self.seconds]
        argv = ["-m", "benchmarks.bars.products", "--input-path", contestant.model_path, *common]
        alone = json.loads(self._python(argv, "products"))
        yield BarSample(number, Quantity.PRODUCTS, OPENVINO, rows, 1, alone["rows_per_s"])
        shapes = [",".join(map(str, shape)) for shape in alone["shapes"]]
        rate = float(self._python(["-m", "benchmarks.bars.tf_products", "--shapes", *shapes, *common], "tf_products"))
        yield BarSample(number, Quantity.PRODUCTS, TENSORFLOW, rows, 1, rate)

    def _pipeline(self, contestant: Contestant, number: int) -> Iterator[BarSample]:
        """Measures two runs of unequal length: their difference in time is for the additional rows only."""
        short_rows, short_s = self._pipeline_run(contestant, self.pipeline_rows // 10)
        long_rows, long_s = self._pipeline_run(contestant, self.pipeline_rows // 10 + self.pipeline_rows)
        rate = (long_rows - short_rows) / (long_s - short_s)
        yield BarSample(number, Quantity.PIPELINE, contestant.title, contestant.parameters.max_batch_size, 1, rate)
        start_s = short_s - short_rows / rate
        yield BarSample(
            number, Quantity.PIPELINE_START, contestant.title, contestant.parameters.max_batch_size, 1, start_s
        )

    def _pipeline_run(self, contestant: Contestant, rows: int) -> tuple[int, float]:
        parquet, dump = self._rows_file(rows), self.folder / "dump"
        model = ["--input-path", contestant.model_path, "--input-type", contestant.parameters.format]
        data = data_options(self.config, contestant.parameters.max_batch_size, str(parquet))
        threads = ["--threads", _threads(contestant)]
        commands: list[list[object]] = [
            [ROOT / "run_inference_on_fw.py", *model, *threads, *data, "--output-dir", dump, "--dump-labels"],
            [ROOT / "calculate_metrics.py", "--metrics", ROOT / "metrics.py", "--dump-dir", dump],
        ]
        commands[1] += ["--csv", self.folder / "metrics.csv"]
        seconds = 0.0
        for command in commands:
            argv = [sys.executable, *map(str, command)]
            seconds += run(argv, log_path=self.folder / "pipeline.log", poll_s=0.02).seconds
        return rows, seconds

    def _rows_file(self, rows: int) -> Path:
        """File with the validation rows repeated, written once."""
        path = self.folder / f"rows_{rows}.parquet"
        if not path.exists():
            folder = DatasetFolder(self.config.dataset_dir)
            sources = sorted((folder.path / "valid").glob("*.parquet"))
            if not sources:
                raise DataError(f"there are no validation data in {folder.path}: run the runner first")
            write_repeated(sources[0], path, rows, folder.spec(None))
        return path

    def _memory(self, contestant: Contestant, number: int) -> Iterator[BarSample]:
        """Measures a separate server for each number of instances, with as many concurrent requests as instances, so
        that all have their buffers."""
        batch = contestant.parameters.max_batch_size
        for instances in INSTANCES:
            more = contestant.with_instances(instances)
            with serving(self.config, self.folder / f"memory_{contestant.number}_{number}_{instances}") as served:
                pid = served.server.pid
                assert pid is not None, "the server was started here"
                if instances == INSTANCES[0]:
                    empty = tree_memory(pid).pss_bytes
                    yield BarSample(number, Quantity.MEMORY, contestant.title, 0, 0, empty)
                served.deploy(more)
                served.offline(more, [batch], concurrency=instances)
                used = tree_memory(pid).pss_bytes
                yield BarSample(number, Quantity.MEMORY, contestant.title, instances, instances, used)

    def _python(self, arguments: list[object], name: str) -> str:
        argv = [sys.executable, *map(str, arguments)]
        env = environment(prepend={"PYTHONPATH": [ROOT]})
        return run(argv, env=env, log_path=self.folder / f"{name}.log").stdout.splitlines()[-1]


def _threads(contestant: Contestant) -> int:
    """Threads that the served model may use, else the number of cores."""
    return contestant.served_threads or usable_cores()


def _sample(number: int, quantity: Quantity, contestant: Contestant, row: PerformanceRow, column: str) -> BarSample:
    value = float(row[column])
    return BarSample(number, quantity, contestant.title, row[BATCH], row[CONCURRENCY], value, bool(row[SETTLED]))
