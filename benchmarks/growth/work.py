"""Runs one kind of work on rows of data in a separate process, and prints its time and peak memory as JSON.

``prepare-*`` makes the input of the work of the same name, so that its memory does not include making the input.
"""

from __future__ import annotations

import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Array, Arrays, Batch, MetricsModule, Prediction, TensorSpec
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.options.plugins import load_module
from deployment_toolkit.process_memory import peak_rss_bytes
from deployment_toolkit.rows.correctness import dump_metrics
from deployment_toolkit.rows.dump import Dump, DumpOptions, DumpWriter
from widedeep.data.parquet import ParquetDataset
from widedeep.data.random_parquet import write_random_parquet
from widedeep.features.outbrain import outbrain_spec

ROWS_PER_DISPLAY = 5.16  # of the demo data
_RAW, _PARQUET, _DUMP = "raw", "rows.parquet", "dump"
_OUTPUT = "wide_deep_model"
_MIB = 2**20


@dataclass(frozen=True)
class WorkOptions:
    """Options of the work."""

    name: str = option("kind of work")
    folder: Path = option("folder of its data")
    rows: int = option("rows of data", 10_000)
    batch_size: int = option("rows of a batch", 4096)
    repeats: int = option("repetitions; the median counts", 1)


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, WorkOptions)
    options = from_args(WorkOptions, parser.parse_args(argv))
    work = WORK[options.name](options)
    rows, seconds = 0, []
    for _ in range(options.repeats):
        started = time.perf_counter()
        rows = work()
        seconds.append(time.perf_counter() - started)
    peak_mib = peak_rss_bytes(os.getpid()) / _MIB
    print(json.dumps({"rows": rows, "seconds": statistics.median(seconds), "peak_mib": peak_mib}))


def _prepare_preprocessing(options: WorkOptions) -> Callable[[], int]:
    from widedeep.synthetic import SyntheticOptions, generate  # imports pandas, which no other work needs

    def work() -> int:
        displays = max(1, round(options.rows / ROWS_PER_DISPLAY))
        generate(SyntheticOptions(options.folder / _RAW, displays))
        return displays

    return work


def _preprocessing(options: WorkOptions) -> Callable[[], int]:
    warnings.filterwarnings("ignore")  # about a machine without a GPU
    from widedeep.preprocessing.dataset import PreprocessingOptions, preprocess
    from widedeep.preprocessing.nvtabular_import import import_nvtabular

    import_nvtabular()  # takes some seconds, independent of the number of rows
    target = options.folder / "preprocessed"
    return lambda: sum(preprocess(PreprocessingOptions(options.folder / _RAW, target, force=True)).values())


def _prepare_loader(options: WorkOptions) -> Callable[[], int]:
    def work() -> int:
        write_random_parquet(options.folder / _PARQUET, options.rows, spec=outbrain_spec())
        return options.rows

    return work


def _loader(options: WorkOptions) -> Callable[[], int]:
    dataset = ParquetDataset(str(options.folder / _PARQUET), outbrain_spec())
    return lambda: sum(len(batch) for batch in dataset.batches(options.batch_size))


def _dumps(options: WorkOptions) -> Callable[[], int]:
    """Writes ids, inputs, labels and outputs of all 29 features and reads them again."""

    def work() -> int:
        _write_dump(options, dump_inputs=True)
        return sum(len(prediction.batch) for prediction in Dump(options.folder / _DUMP).predictions())

    return work


def _prepare_metrics(options: WorkOptions) -> Callable[[], int]:
    return lambda: _write_dump(options, dump_inputs=False)


def _metrics(options: WorkOptions) -> Callable[[], int]:
    module = load_module(ROOT / "metrics.py", MetricsModule)

    def work() -> int:
        dump = Dump(options.folder / _DUMP)
        dump_metrics(module.MetricsCalculator(output_used_for_metrics=_OUTPUT), dump)
        return dump.rows

    return work


def _openvino(options: WorkOptions) -> Callable[[], int]:
    """Converts ``folder/model.onnx`` to OpenVINO."""
    from deployment_toolkit.library.openvino.session import OpenVinoFromOnnx

    def work() -> int:
        target = options.folder / "model.openvino"
        target.mkdir()
        OpenVinoFromOnnx().convert(options.folder / "model.onnx", target)
        return 0

    return work


WORK: dict[str, Callable[[WorkOptions], Callable[[], int]]] = {
    "prepare-preprocessing": _prepare_preprocessing,
    "preprocessing": _preprocessing,
    "prepare-loader": _prepare_loader,
    "loader": _loader,
    "dumps": _dumps,
    "prepare-metrics": _prepare_metrics,
    "metrics": _metrics,
    "openvino": _openvino,
}


def _write_dump(options: WorkOptions, *, dump_inputs: bool) -> int:
    with DumpWriter(DumpOptions(options.folder / _DUMP, dump_labels=True, dump_inputs=dump_inputs)) as dump:
        for prediction in _predictions(options.rows, options.batch_size):
            dump.write(prediction)
    return options.rows


def _predictions(rows: int, batch_size: int) -> Iterator[Prediction]:
    generator = np.random.default_rng(0)
    x: Arrays = {tensor.name: np.ones((batch_size, *tensor.shape), tensor.dtype) for tensor in _inputs()}
    group_id = outbrain_spec().group_id
    assert group_id is not None
    for start in range(0, rows, batch_size):
        count = min(batch_size, rows - start)
        ids: Array = (np.arange(start, start + count) // 5).astype(group_id.dtype)
        answers = generator.random((count, 1), np.float32)
        labels = (generator.random((count, 1)) < answers).astype(np.int32)
        inputs = {name: array[:count] for name, array in x.items()}
        yield Prediction(Batch(ids, inputs, {"clicked": labels}), {_OUTPUT: answers})


def _inputs() -> tuple[TensorSpec, ...]:
    return outbrain_spec().model_spec.inputs


if __name__ == "__main__":
    run_entry_point(main)
