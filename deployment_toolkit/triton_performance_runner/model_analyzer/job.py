"""Job and results of Model Analyzer's child processes, in a folder that they share with the measuring process."""

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
    """A measurement for the child processes. ``target`` names the server that ``server_command`` starts.
    ``cuda_visible_devices`` is the value of that environment variable for server and client, None for no variable;
    Model Analyzer itself sees no GPU. ``client`` is the process that measures, by Model Analyzer. ``folder`` is only
    for this job."""

    folder: Path
    options: PerformanceOptions
    target: Target
    data: InputData
    server_command: Sequence[str]
    cuda_visible_devices: str | None
    client: int | None = None

    def write(self) -> None:
        """Writes the job to its folder."""
        (self.folder / "job.pickle").write_bytes(pickle.dumps(self))

    @classmethod
    def read(cls, folder: Path) -> AnalyzerJob:
        """Inverse of ``write``; the folder must be trusted, because the job is pickled."""
        job = pickle.loads((folder / "job.pickle").read_bytes())
        assert isinstance(job, cls)
        return job

    def environment(self) -> dict[str, str]:
        """Copy of this process's environment, with the GPUs that are hidden from Model Analyzer."""
        env = environment(prepend={})
        env.pop(GPUS, None)
        return env if self.cuda_visible_devices is None else {**env, GPUS: self.cuda_visible_devices}

    @property
    def report_path(self) -> Path:
        """Path at which Model Analyzer expects perf_analyzer's CSV."""
        return self.folder / "perf_analyzer.csv"

    def begin(self, point: LoadPoint) -> None:
        """Records that the measurement of a point has begun."""
        self._begun(point).touch()

    def has_begun(self, point: LoadPoint) -> bool:
        """True if the measurement of the point has begun or ended."""
        return self._begun(point).exists()

    def succeed(self, point: LoadPoint, row: PerformanceRow) -> None:
        """Records the row of a point."""
        write_text(self._ended(point), json.dumps({"row": row}))

    def fail(self, point: LoadPoint, reason: str) -> None:
        """Records the reason why the measurement of a point failed."""
        write_text(self._ended(point), json.dumps({"error": reason}))

    def outcome(self, point: LoadPoint) -> PerformanceRow | None:
        """Row of a point, or None if the measurement has not ended. Raises PerformanceError if it failed."""
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
