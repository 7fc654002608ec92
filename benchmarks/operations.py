"""Measures the time of an OpenVINO model by kind of operation, with the CPU plugin's profiler.

Run from the repository's root: ``python -m benchmarks.operations --input-path MODEL --dataloader dataloader.py …``
Operations of one inference run one after the other, each on all threads, so their times add up to the inference's.
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openvino

from deployment_toolkit.core import Arrays, Format
from deployment_toolkit.errors import DataError
from deployment_toolkit.library.model_files import MAIN_FILES
from deployment_toolkit.library.openvino.arithmetic import arithmetic
from deployment_toolkit.options.command_line import DATALOADER, read_command_line
from deployment_toolkit.options.params import option, run_entry_point
from deployment_toolkit.rows.batches import exact_batches

_BATCHES = 6
_LEAST_SHARE = 0.005  # operations with a smaller share are one line


@dataclass(frozen=True)
class OperationsOptions:
    """Options of this command, in addition to the dataloader's."""

    input_path: Path = option("stored OpenVINO model")
    dataloader: Path = option("module with get_dataloader_fn")
    rows_per_call: int = option("rows of a batch", 4096)
    threads: int | None = option("threads; default: the runtime's choice", None)
    calls: int = option("inferences that are profiled; medians count", 30)


def main(argv: list[str]) -> None:
    command = read_command_line(__doc__, argv, [OperationsOptions], [DATALOADER])
    options = command.get(OperationsOptions)
    rows = options.rows_per_call
    batches = exact_batches((x for _, x, _ in command.call(DATALOADER)()), rows)
    full = list(itertools.islice((x for x in batches if len(next(iter(x.values()))) == rows), _BATCHES))
    if not full:
        raise DataError(f"the data set has fewer than {rows} rows: give more, or a smaller --rows-per-call")
    print(as_table(operation_times(options.input_path, full, options.threads, options.calls), rows))


def operation_times(path: Path, batches: Sequence[Arrays], threads: int | None, calls: int) -> dict[str, float]:
    """Median ms of an inference by kind of operation, with its arithmetic, longest first."""
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": arithmetic(path), "PERFORMANCE_HINT": "LATENCY"}
    config |= {"ENABLE_CPU_PINNING": False, "PERF_COUNT": True}
    config |= {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    core = openvino.Core()
    request = core.compile_model(str(path / MAIN_FILES[Format.OPENVINO]), "CPU", config).create_infer_request()
    taken: list[Counter[str]] = []
    for batch in itertools.islice(itertools.cycle(batches), calls + len(batches)):
        request.infer(batch, share_inputs=True)
        taken.append(_by_kind(request.profiling_info))
    counted = taken[len(batches) :]  # the first of each batch warms up
    kinds = set().union(*counted)
    medians = {kind: statistics.median(times[kind] for times in counted) for kind in kinds}
    return dict(sorted(medians.items(), key=lambda item: -item[1]))


def as_table(times: Mapping[str, float], rows: int) -> str:
    """Markdown table; operations with little time are one line."""
    total = sum(times.values())
    shown = {kind: ms for kind, ms in times.items() if ms >= _LEAST_SHARE * total}
    rest = total - sum(shown.values())
    lines = [f"| operation, batch {rows:,} | ms | share |", "| --- | ---: | ---: |"]
    lines += [f"| {kind} | {ms:.3f} | {ms / total:.1%} |" for kind, ms in shown.items()]
    return "\n".join([*lines, f"| others | {rest:.3f} | {rest / total:.1%} |", f"| all | {total:.3f} | 100 % |"])


def _by_kind(infos: Sequence[Any]) -> Counter[str]:
    times: Counter[str] = Counter()
    for info in infos:
        ms = info.real_time.total_seconds() * 1e3
        if ms > 0:
            times[f"{info.node_type}, {info.exec_type}"] += ms
    return times


if __name__ == "__main__":
    run_entry_point(main)
