"""Steps of the pipeline that write files, killed at a random moment or on a disk that is too small. Afterwards each
target is whole, the earlier one or the new one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.faults.episode import Outcome, Setting
from benchmarks.faults.left_behind import wait_for_ends
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import ProcessError
from deployment_toolkit.files.atomic import remove, size_bytes
from deployment_toolkit.process import Child, child, last_lines, run
from widedeep.features.outbrain import outbrain_spec
from widedeep.features.spec import Feature, FeatureSpec

_DATA = "--dataloader dataloader.py --data-pattern {base}/data/valid/*.parquet"
_PYTHON = shlex.quote(sys.executable)
_LONGEST_S = 600.0
_SIZE_SHARE = 0.02  # by which the size of a file differs between two runs: dates and numbers in texts
_EARLIER = "earlier"
_ROWS = 2_000  # of an embedding table


@dataclass(frozen=True)
class Step:
    """A command. ``{base}`` is the folder of what earlier steps made, ``{out}`` that of this step's ``target``.
    Without ``replaces`` it refuses to write over one."""

    command: str
    target: str
    replaces: bool = True  # a target that is there

    def argv(self, base: Path, out: Path) -> list[str]:
        """The command with these folders."""
        return [part.format(base=base, out=out) for part in shlex.split(self.command)]


# In the order in which each needs the targets of those before.
STEPS: Mapping[str, Step] = {
    "raw data": Step(
        f"{_PYTHON} -m widedeep.synthetic --output-dir {{out}}/raw --displays 400 --seed 1", "raw", replaces=False
    ),
    "preprocessing": Step(
        "scripts/preproc.sh --raw-dir {base}/raw --output-dir {out}/data --force --feature-spec {base}/small.yaml",
        "data",
    ),
    "training": Step(
        "scripts/train.sh --data-dir {base}/data --checkpoint-dir {out}/checkpoint --epochs 1 --batch-size 256 "
        "--deep-hidden-units 64 64",
        "checkpoint",
    ),
    "export": Step(
        f"{_PYTHON} export_model.py --input-path model.py --input-type tf-keras --output-path {{out}}/savedmodel "
        "--output-type tf-savedmodel --checkpoint-dir {base}/checkpoint --deep-hidden-units 64 64 --precision fp32 "
        f"{_DATA} --batch-size 256",
        "savedmodel",
    ),
    "conversion": Step(
        f"{_PYTHON} -m navigator convert --model-name m --model-path {{base}}/savedmodel --launch-mode local "
        f"--override-workspace --workspace-path {{out}}/work --max-batch-size 256 {_DATA} --batch-size 256 "
        "--target-formats onnx --output-path {out}/converted",
        "converted",
    ),
    "reference answers": Step(
        f"{_PYTHON} run_inference_on_fw.py --input-path model.py --input-type tf-keras --precision fp32 "
        f"--checkpoint-dir {{base}}/checkpoint --deep-hidden-units 64 64 {_DATA} --output-dir {{out}}/dump "
        "--dump-labels",
        "dump",
    ),
    "metrics": Step(
        f"{_PYTHON} calculate_metrics.py --metrics metrics.py --dump-dir {{base}}/dump --csv {{out}}/metrics.csv",
        "metrics.csv",
    ),
}


@dataclass(frozen=True)
class StepResults:
    """What one undisturbed run of each step made, and how long it took. ``kb`` is the size of its target."""

    base: Path
    seconds: Mapping[str, float]
    kb: Mapping[str, int]


_made: dict[Path, StepResults] = {}


def make_once(setting: Setting) -> StepResults:
    """Runs each step once; the results are kept for this call. Raises ProcessError if one fails."""
    base = setting.folder / "base"
    if base not in _made:
        base.mkdir()
        (base / "small.yaml").write_text(_small_features().to_yaml())
        seconds, kb = {}, {}
        for name, step in STEPS.items():
            begun = time.monotonic()
            log = setting.output_dir / "steps.log"
            run(step.argv(base, base), env=_here(setting), timeout_s=_LONGEST_S, log_path=log)
            seconds[name] = time.monotonic() - begun
            kb[name] = size_bytes(base / step.target) // 1024 + 1
        _made[base] = StepResults(base, seconds, kb)
    return _made[base]


def kill(setting: Setting, number: int, random: np.random.Generator, outcome: Outcome) -> None:
    """Kills a step at a random moment; half of the time only its first process, so that its children see it go."""
    made = make_once(setting)
    name, step = list(STEPS.items())[(number - 1) % len(STEPS)]
    out = setting.folder / f"kill_{number}"
    out.mkdir()
    target = out / step.target
    earlier = bool(random.integers(2))
    if earlier:
        _copy(made.base / step.target, target)
        _mark(target)
    group = bool(random.integers(2))
    outcome.subject = f"{name}, {'its processes' if group else 'its first process'}"
    at_s = float(random.uniform(0, 1.1 * made.seconds[name]))
    with child(step.argv(made.base, out), env=_here(setting), stdout=setting.folder / "kill.log") as process:
        if process.wait(at_s) is None:
            outcome.add("kills")
            _kill(process, group=group)
    left = wait_for_ends(setting.environment, 15)
    outcome.add("left_behind", len(left), f"left: {left}")
    check(made.base / step.target, target, outcome, earlier=earlier)
    if number % 3 == 0:  # the next run does what the killed one did not, and clears away what it left
        _again(setting, made, name, out, outcome)
    remove(out)


def disk(setting: Setting, number: int, random: np.random.Generator, outcome: Outcome) -> None:
    """Runs a step whose target is on a file system of a random size, mostly too small."""
    made = make_once(setting)
    name, step = list(STEPS.items())[(number - 1) % len(STEPS)]
    out = setting.folder / f"disk_{number}"
    out.mkdir()
    kb = int(random.uniform(0.02, 1.3) * made.kb[name]) + 16
    outcome.subject = f"{name}, {kb / made.kb[name]:.0%} of what it needs"
    log = setting.folder / "disk.log"
    log.unlink(missing_ok=True)
    run(["mount", "-t", "tmpfs", "-o", f"size={kb}k", "faults", out], log_path=setting.folder / "mount.log")
    try:
        try:
            run(step.argv(made.base, out), env=_here(setting), timeout_s=_LONGEST_S, log_path=log)
            outcome.add("others", int(not (out / step.target).exists()), "exit code 0 without a result")
        except ProcessError as error:
            said = last_lines(error.stderr or error.stdout, 1)
            wrong = error.returncode != 1 or "Traceback" in error.stderr or "error" not in said.lower()
            outcome.add("others", int(wrong), f"{name}: exit code {error.returncode}, {said}")
        check(made.base / step.target, out / step.target, outcome, earlier=False)
    finally:
        left = wait_for_ends(setting.environment, 15)
        run(["umount", out], log_path=setting.folder / "mount.log")
    outcome.add("left_behind", len(left), f"left: {left}")
    out.rmdir()


def _small_features() -> FeatureSpec:
    """Outbrain's features with tables of some MB."""

    def cut(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        return tuple(dataclasses.replace(one, cardinality=min(one.cardinality or 0, _ROWS)) for one in features)

    spec = outbrain_spec()
    return dataclasses.replace(spec, onehot=cut(spec.onehot), multihot=cut(spec.multihot))


def _again(setting: Setting, made: StepResults, name: str, out: Path, outcome: Outcome) -> None:
    step = STEPS[name]
    target = out / step.target
    if not step.replaces:
        remove(target)
    elif target.is_dir():
        (target / _EARLIER).unlink(missing_ok=True)  # a step replaces what is its own alone
    try:
        run(step.argv(made.base, out), env=_here(setting), timeout_s=_LONGEST_S, log_path=setting.folder / "again.log")
    except ProcessError as error:
        outcome.add("others", 1, f"{name}, the next run: {last_lines(error.stderr or error.stdout, 2)}")
        return
    check(made.base / step.target, out / step.target, outcome, earlier=False, must_be=True)
    beside = sorted(path.name for path in out.iterdir() if path.name not in (step.target, "work"))
    outcome.add("left_behind", len(beside), f"{name}, after the next run: {beside}")


def check(whole: Path, target: Path, outcome: Outcome, *, earlier: bool, must_be: bool = False) -> None:
    """Counts a target that is neither the earlier one nor a whole new one, or not there though there was an earlier."""
    if not target.exists():
        outcome.add("bad_files", int(earlier or must_be), f"{target.name} is lost")
        return
    wanted, found = _sizes(whole), _sizes(target)
    if earlier and _is_marked(target):
        found.pop(_EARLIER, None)
        if target.is_file():
            found = {name: size - len(_EARLIER) for name, size in found.items()}
    missing = sorted(set(wanted) ^ set(found))
    short = [
        name for name in set(wanted) & set(found) if abs(found[name] - wanted[name]) > 64 + _SIZE_SHARE * wanted[name]
    ]
    bad = [*missing, *short]
    outcome.add("bad_files", len(bad), f"{target.name} is not whole: {bad[:3]}")


def _sizes(path: Path) -> dict[str, int]:
    """Bytes of each file by its place."""
    if path.is_file():
        return {"": path.stat().st_size}
    return {str(one.relative_to(path)): one.stat().st_size for one in path.rglob("*") if one.is_file()}


def _mark(target: Path) -> None:
    if target.is_dir():
        (target / _EARLIER).write_text(_EARLIER)
    else:
        with target.open("a") as file:
            file.write(_EARLIER)


def _is_marked(target: Path) -> bool:
    return (target / _EARLIER).exists() if target.is_dir() else target.read_bytes().endswith(_EARLIER.encode())


def _kill(process: Child, *, group: bool) -> None:
    """SIGKILL, as when memory runs out; without ``group`` for the command's own process alone."""
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _here(setting: Setting) -> dict[str, str]:
    return {**setting.environment, "PYTHONPATH": str(ROOT)}
