"""Compares the steps of two installed checkouts of this project, each in its own ``.venv``: seconds, CPU and memory.

Run from the root of the newer checkout: ``python -m benchmarks.stacks --before FOLDER``. Both checkouts do each step,
one after the other and in a random order, on data of their own, so that a shared machine's load meets both.
``--install pip uv`` also clones and installs both, and gives the size of each ``.venv``; packages come from the caches
of pip and uv, so call it twice if they are empty. ``--models`` also compares the servers.
"""

from __future__ import annotations

import json
import random
import shlex
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.cpp_models import hosted_format, named_models
from benchmarks.stacks_serving import ServingMeasurement, measure_serving, serving_table
from deployment_toolkit.errors import UsageError, require_options_at_least
from deployment_toolkit.files.atomic import remove, write_text
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.process import environment, run
from deployment_toolkit.progress import progress_bar
from deployment_toolkit.results.tables import write_csv
from runner.serving import read_system_info

CSV_FILE, SERVING_FILE, PAGE_FILE = "stacks.csv", "serving.csv", "stacks.md"
BEFORE, NOW = "before", "now"
_HERE = Path(__file__).parent.parent
_INSTALLATION = "installation, "  # before what it sets in the environment
_SCRIPTS = (
    "export_model.py",
    "run_inference_on_fw.py",
    "run_inference_on_triton.py",
    "calculate_metrics.py",
    "check_correctness.py",
    "run_performance_on_triton.py",
    "deploy_ensemble.py",
)
_DATA = "--dataloader dataloader.py --data-pattern {folder}/data/valid/*.parquet"
_CONVERT = (
    "python -m navigator convert --model-name m --model-path {folder}/savedmodel --launch-mode local "
    f"--override-workspace --workspace-path {{folder}}/work --max-batch-size 4096 {_DATA} "
)
# Answers the raw validation rows ten times, in requests of an ensemble's size.
_SESSION = """
import sys
from pathlib import Path
from widedeep.data.raw_parquet import RawParquet
from widedeep.features.spec import load_feature_spec
from widedeep.preprocessing.raw_features import load_raw_features
data, rows = Path(sys.argv[1]), sys.argv[2]
spec = load_feature_spec(data / "feature_spec.yaml")
session = load_raw_features(data / "workflow", spec)
for _ in range(10):
    for batch in RawParquet(rows, spec).batches(2085):
        session.infer(batch.x)
"""
STEPS: Mapping[str, str] = {
    **{f"{script} --help": f"python {script} --help" for script in _SCRIPTS},
    "model-navigator convert --help": "python -m navigator convert --help",
    "raw data": "python -m widedeep.synthetic --output-dir {folder}/raw --displays {displays} --seed 1",
    "preprocessing": "scripts/preproc.sh --raw-dir {folder}/raw --output-dir {folder}/data",
    "training, 1 epoch": "scripts/train.sh --data-dir {folder}/data --checkpoint-dir {folder}/checkpoint --epochs 1",
    "export": "python export_model.py --input-path model.py --input-type tf-keras --output-path {folder}/savedmodel "
    f"--output-type tf-savedmodel --checkpoint-dir {{folder}}/checkpoint --precision fp32 {_DATA} --batch-size 4096",
    "convert to ONNX": f"{_CONVERT} --target-formats onnx",
    "convert to OpenVINO": f"{_CONVERT} --target-formats openvino",
    "reference answers, TensorFlow": "python run_inference_on_fw.py --input-path model.py --input-type tf-keras "
    f"--precision fp32 --checkpoint-dir {{folder}}/checkpoint {_DATA} --output-dir {{folder}}/dump --dump-labels",
    "metrics": "python calculate_metrics.py --metrics metrics.py --dump-dir {folder}/dump --csv {folder}/metrics.csv",
    "gate": "python check_correctness.py --metrics metrics.py --reference-dump-dir {folder}/dump "
    "--dump-dir {folder}/dump --csv {folder}/correctness.csv",
    "loader, 1,000,000 rows": "python benchmarks/loader.py --repeats 3 --csv {folder}/loader.csv",
    "raw rows": "python -m widedeep.raw_rows --raw-dir {folder}/raw --output-dir {folder}/joined",
    "ensemble's session, requests of 2,085 rows": f"python -c {shlex.quote(_SESSION)} {{folder}}/data "
    "{folder}/joined/valid/*.parquet",
}
# Runs its arguments; prints the CPU seconds of all their processes and the peak memory of the largest one, in KiB.
_MEASURE = """
import json, os, resource, sys, time
begun = time.monotonic()
os.chdir(sys.argv[2])
code = os.spawnvp(os.P_WAIT, sys.argv[3], sys.argv[3:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([time.monotonic() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss], file)
sys.exit(code)
"""


@dataclass(frozen=True)
class StacksOptions:
    """Options of the command."""

    before: Path = option("root of the older checkout, installed")
    steps: list[str] = option(
        "only these, or none; most need the products of earlier ones", list(STEPS), choices=list(STEPS), nargs="*"
    )
    displays: int = option("displays of the raw data; a display has about 5 rows", 20_000)
    rounds: int = option("times that each step is done", 3)
    install: list[str] = option(
        "also clone and install both checkouts in each round, with these", [], choices=("pip", "uv"), nargs="+"
    )
    models: list[str] = option(
        "NAME=PATH of models that both serve on the C++ host: a SavedModel, an ONNX file or an OpenVINO folder",
        [],
        nargs="+",
    )
    output_dir: Path = option("folder of the results", Path("stacks"))

    def __post_init__(self) -> None:
        require_options_at_least(self, ("displays", "rounds"), 1)
        for path in named_models(self.models).values():
            hosted_format(path)
        for root in (self.before, _HERE):
            if not (root / ".venv" / "bin" / "python").is_file():
                raise UsageError(f"{root} has no .venv: call scripts/install.sh there")


@dataclass(frozen=True)
class StepMeasurement:
    """One step in one checkout. ``cpu_s`` are the CPU seconds of all its processes, ``peak_mib`` is the peak memory of
    the largest of them; for the installation it is the size of the ``.venv`` on disk."""

    step: str
    round: int
    side: str
    seconds: float
    cpu_s: float
    peak_mib: float


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, StacksOptions)
    options = from_args(StacksOptions, parser.parse_args(argv))
    options.output_dir.mkdir(parents=True, exist_ok=True)
    begun = datetime.now(UTC)
    measured: list[StepMeasurement] = []
    served: list[ServingMeasurement] = []
    with tempfile.TemporaryDirectory(prefix="stacks_") as folder:
        for row in _measure(options, Path(folder)):
            measured.append(row)
            write_csv(options.output_dir / CSV_FILE, [vars(row) for row in measured])
        for answer in _serve(options, Path(folder)):
            served.append(answer)
            write_csv(options.output_dir / SERVING_FILE, [vars(row) for row in served])
    made_by = shlex.join(["python", "-m", "benchmarks.stacks", *argv])
    text = page(measured, served, f"{read_system_info().summary}; {begun:%Y-%m-%d %H:%M} UTC", made_by)
    write_text(options.output_dir / PAGE_FILE, text)
    print(text)


def page(measured: Sequence[StepMeasurement], served: Sequence[ServingMeasurement], machine: str, command: str) -> str:
    """Markdown tables of the medians over the rounds."""
    lines = ["# Two checkouts, step by step", "", f"{machine}. Made by `{command}`", ""]
    return "\n".join([*lines, *_steps_table(measured), *serving_table(served, BEFORE, NOW)])


def _steps_table(measured: Sequence[StepMeasurement]) -> list[str]:
    if not measured:
        return []
    lines = []
    lines += [
        "Medians over the rounds, in brackets the lowest and the highest ratio now / before. CPU is of all processes of"
    ]
    lines += ["a step. Memory is the peak of its largest process; for the installation, the size of `.venv`.", ""]
    lines += ["| step | s before | s now | ratio | CPU s before | CPU s now | ratio | MiB before | MiB now |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for step in dict.fromkeys(row.step for row in measured):
        sides = [[row for row in measured if (row.step, row.side) == (step, side)] for side in (BEFORE, NOW)]
        cells = [*_compared([[row.seconds for row in side] for side in sides])]
        cells += _compared([[row.cpu_s for row in side] for side in sides])
        cells += [f"{statistics.median(row.peak_mib for row in side):,.0f}" for side in sides]
        lines.append(f"| {step} | {' | '.join(cells)} |")
    return [*lines, ""]


def _compared(sides: Sequence[Sequence[float]]) -> list[str]:
    ratios = [now / before for before, now in zip(*sides, strict=True)]
    medians = [f"{statistics.median(side):.3g}" for side in sides]
    return [*medians, f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"]


def _measure(options: StacksOptions, folder: Path) -> Iterator[StepMeasurement]:
    """Does each step of each round in both checkouts."""
    order = random.Random(1)
    roots = {BEFORE: options.before.resolve(), NOW: _HERE}
    installations = [f"{_INSTALLATION}INSTALLER={program}" for program in options.install]
    names = [*(step for step in STEPS if step in options.steps), *installations]
    with progress_bar("steps", len(names) * options.rounds * 2, " steps") as bar:
        for number in range(1, options.rounds + 1):
            for name in names:
                for side in order.sample(list(roots), len(roots)):
                    own = folder / side / str(number)
                    own.mkdir(parents=True, exist_ok=True)
                    do = _install if name in installations else _do
                    yield StepMeasurement(name, number, side, *do(name, roots[side], own, options))
                    bar.update()


def _do(name: str, root: Path, folder: Path, options: StacksOptions) -> tuple[float, float, float]:
    command = [part.format(folder=folder, displays=options.displays) for part in shlex.split(STEPS[name])]
    if command[0].endswith(".sh"):
        command[0] = str(root / command[0])
    return _timed(command, root, folder)


def _install(name: str, root: Path, folder: Path, options: StacksOptions) -> tuple[float, float, float]:
    clone = folder / "clone"
    run(["git", "clone", "--quiet", root, clone], log_path=folder / "clone.log")
    installer = ["env", name.removeprefix(_INSTALLATION), str(clone / "scripts" / "install.sh")]
    seconds, cpu_s, _ = _timed(installer, clone, folder)
    size = run(["du", "-sm", clone / ".venv"], log_path=folder / "size.log").stdout.split()[0]
    remove(clone)
    return seconds, cpu_s, float(size)


def _serve(options: StacksOptions, folder: Path) -> Iterator[ServingMeasurement]:
    """Serves each model in both checkouts, in each round."""
    models = named_models(options.models)
    checkouts = {BEFORE: options.before.resolve(), NOW: _HERE}
    with progress_bar("servers", len(models) * options.rounds, " starts") as bar:
        for number in range(1, options.rounds + 1):
            for name, model in models.items():
                own = folder / f"served_{name}_{number}"
                yield from measure_serving(name, model.resolve(), checkouts, number, own)
                bar.update()


def _timed(command: Sequence[str], root: Path, folder: Path) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak MiB of a command in a checkout, with that checkout's packages."""
    env = environment(prepend={"PATH": [root / ".venv" / "bin"]}) | {"PYTHONPATH": str(root)}
    wrapped: list[str | Path] = [sys.executable, "-c", _MEASURE, folder / "used.json", root, *command]
    log = folder / f"step_{len(list(folder.glob('step_*')))}.log"
    run(wrapped, env=env, log_path=log)
    seconds, cpu_s, peak_kib = json.loads((folder / "used.json").read_text())
    return seconds, cpu_s, peak_kib / 1024


if __name__ == "__main__":
    run_entry_point(main)
