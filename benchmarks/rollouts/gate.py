"""The gate of a canary: the commands of the chart's own test, against one pod, on rows that are kept with the model."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cpp_models import TOLERANCES, arithmetic_of, hosted_format
from benchmarks.rollouts.chart import Objects, gate_pod
from benchmarks.rollouts.constant_load import Questions
from benchmarks.rollouts.pods import Pod
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Array, Arrays, Batch, Prediction
from deployment_toolkit.errors import ProcessError, ToleranceError, UsageError
from deployment_toolkit.library.registry import loader
from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.process import environment, run
from deployment_toolkit.rows.dump import DumpOptions, DumpWriter
from deployment_toolkit.rows.sample import random_rows

MOST_ROWS = 256  # of a request
_ROWS = 512
_DISPLAY_ROWS = 5
_TIMEOUT_S = 300.0
_COMPARES = "check_correctness.py"
_REFERENCE, _WORK = "/mnt/model/gate/reference", "/work"  # in the chart's pod
_PORTS = {"grpc": 8001, "http": 8000}


@dataclass(frozen=True)
class CanaryGate:
    """The chart's test as rendered with the canary, and a folder with the reference dump ``reference``."""

    objects: Objects
    folder: Path

    def check(self, pod: Pod) -> None:
        """Raises ToleranceError with the gate's own words if the pod answers otherwise, ProcessError if it can't be
        asked."""
        spec = gate_pod(self.objects)
        work = self.folder / pod.name
        work.mkdir()
        for container in (*spec["initContainers"], *spec["containers"]):
            if "python" in container.get("command", ()):
                self._run(container, pod, work)

    def _run(self, container: Mapping[str, Any], pod: Pod, work: Path) -> None:
        command = [self._here(text, pod, work) for text in container["command"]]
        env = environment(prepend={"PYTHONPATH": [ROOT]})
        try:
            run(command, env=env, timeout_s=_TIMEOUT_S, log_path=work / f"{container['name']}.log")
        except ProcessError as error:
            if error.returncode != 1 or "Traceback" in error.stderr or _COMPARES not in " ".join(command):
                raise
            raise ToleranceError(error.stderr.strip().splitlines()[-1]) from error

    def _here(self, text: str, pod: Pod, work: Path) -> str:
        """A word of a command with this machine's paths and the pod's own address."""
        if text == "python":
            return sys.executable
        if text.endswith(".py"):
            option, _, name = text.rpartition("=")
            return f"{option}={ROOT / name}" if option else str(ROOT / name)
        option, equals, value = text.partition("=")
        here = {_REFERENCE: str(self.folder / "reference")}
        here |= {f"{_WORK}/{name}": str(work / name) for name in (*_PORTS, "correctness.csv")}
        here |= {
            f"{protocol}://{pod.service}:{port}": f"{protocol}://{LOOPBACK}:{pod.ports[protocol]}"
            for protocol, port in _PORTS.items()
        }
        return f"{option}{equals}{here.get(value, value)}"


def keep_answers(model: Path, name: str, folder: Path, seed: int = 1) -> Questions:
    """Writes the reference dump of a model into a folder, with inputs and random labels. Returns questions of one row
    each with the same answers. Raises UsageError if the model has more than one output."""
    session = loader(hosted_format(model))().load(model)
    if len(session.spec.outputs) != 1:
        raise UsageError(f"{model} has {len(session.spec.outputs)} outputs, the clients read one")
    (output,) = session.spec.outputs
    x = random_rows(session.spec, _ROWS, seed)
    expected = session.infer(x)
    labels = np.random.default_rng(seed).integers(0, 2, (_ROWS, 1), dtype=np.int32)
    ids: Array = np.arange(_ROWS, dtype=np.int32) // _DISPLAY_ROWS
    with DumpWriter(DumpOptions(folder / "reference", dump_labels=True, dump_inputs=True)) as dump:
        dump.write(Prediction(Batch(ids, x, {"clicked": labels}), expected))
    rows = [_row(x, at) for at in range(_ROWS)]
    answers: Array = expected[output.name].reshape(_ROWS, -1)
    return Questions(name, rows, list(answers), TOLERANCES[arithmetic_of(model)])


def _row(rows: Arrays, at: int) -> Arrays:
    return {name: array[at : at + 1] for name, array in rows.items()}
