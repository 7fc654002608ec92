"""Job and results of Model Analyzer's child processes: a folder shared by them and the process that started it
all."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.process import environment
from deployment_toolkit.results.performance import PerformanceRow
from deployment_toolkit.triton_performance_runner.options import LoadPoint, PerformanceOptions
from deployment_toolkit.triton_performance_runner.perf_data import InputData
from deployment_toolkit.triton_performance_runner.target import Target

GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class AnalyzerJob:
    """``target`` names the server that ``server_command`` starts. ``cuda_visible_devices`` is what server and client
    are to find in the environment variable of that name, None for no such variable; Model Analyzer itself is told of no
    GPU. ``folder`` is for this job alone."""

    folder: Path
    options: PerformanceOptions
    target: Target
    data: InputData
    server_command: Sequence[str]
    cuda_visible_devices: str | None

    def write(self) -> None:
        """Leaves the job in its folder."""
        (self.folder / "job.pickle").write_bytes(pickle.dumps(self))

    @classmethod
    def read(cls, folder: Path) -> AnalyzerJob:
        """Inverse of ``write``, in a process that this one trusts."""
        job = pickle.loads((folder / "job.pickle").read_bytes())
        assert isinstance(job, cls)
        return job

    def environment(self) -> dict[str, str]:
        """A copy of this process's environment, with the GPUs that Model Analyzer was not told of."""
        env = environment(prepend={})
        env.pop(GPUS, None)
        return env if self.cuda_visible_devices is None else {**env, GPUS: self.cuda_visible_devices}

    @property
    def report_path(self) -> Path:
        """Where Model Analyzer expects perf_analyzer's CSV."""
        return self.folder / "perf_analyzer.csv"

    def begin(self, point: LoadPoint) -> None:
        """Notes that a point is being measured."""
        self._begun(point).touch()

    def has_begun(self, point: LoadPoint) -> bool:
        """Whether the point is being measured, or was."""
        return self._begun(point).exists()

    def succeed(self, point: LoadPoint, row: PerformanceRow) -> None:
        """Notes what a point's measurement gave."""
        write_text(self._ended(point), json.dumps({"row": row}))

    def fail(self, point: LoadPoint, reason: str) -> None:
        """Notes why a point could not be measured."""
        write_text(self._ended(point), json.dumps({"error": reason}))

    def outcome(self, point: LoadPoint) -> PerformanceRow | None:
        """The row, or None if the measurement has not ended. Raises PerformanceError if it failed."""
        path = self._ended(point)
        if not path.exists():
            return None
        noted = json.loads(path.read_text())
        if "error" in noted:
            raise PerformanceError(noted["error"])
        row: PerformanceRow = noted["row"]
        return row

    def _begun(self, point: LoadPoint) -> Path:
        return self.folder / f"begun_{point.key}"

    def _ended(self, point: LoadPoint) -> Path:
        return self.folder / f"ended_{point.key}.json"
