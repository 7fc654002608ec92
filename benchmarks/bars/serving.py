"""Contestants on an embedded server, deployed and measured with the commands of the runner's stages."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bars.contestants import Contestant
from benchmarks.peers.load import Load, post_rows
from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.packing import pack
from deployment_toolkit.process import Child
from deployment_toolkit.results.performance import PerformanceRow
from deployment_toolkit.rows.sample import random_rows
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from runner.serving import RunConfig, StandaloneExperiment

_POSTED_ROWS, _SEED = 4096, 1


@dataclass(frozen=True)
class Serving:
    """A server and its deployed models, each under its own name. ``folder`` is only for it."""

    config: RunConfig
    server: TritonServer
    folder: Path

    def deploy(self, contestant: Contestant) -> None:
        """Loads a contestant's model with its parameters. Raises ProcessError if the server can't."""
        self._experiment(contestant).deploy(self.server, contestant.model_path)

    def offline(self, contestant: Contestant, batches: Sequence[int], concurrency: int = 1) -> list[PerformanceRow]:
        """Measures through shared memory. Raises ProcessError."""
        return self._experiment(contestant).measure(self.server, EvaluationMode.OFFLINE, batches, [concurrency])

    def online(
        self, contestant: Contestant, batch: int, concurrency: int, watch: Callable[[Child], None]
    ) -> PerformanceRow:
        """Measures over HTTP, one point. ``watch`` is called with the measuring program while it runs. Raises
        ProcessError."""
        experiment = self._experiment(contestant)
        return experiment.measure(self.server, EvaluationMode.ONLINE, [batch], [concurrency], watch)[0]

    def post(self, wrk: str, contestant: Contestant, *, rows: int, concurrency: int, seconds: float) -> Load:
        """Measures over HTTP with a light client: random rows, the same for all contestants. Raises PerformanceError if
        a request fails."""
        name = self._model_name(contestant)
        spec = self.server.model_spec(name)
        x = pack(random_rows(spec.unpacked, max(_POSTED_ROWS, rows), _SEED), spec)
        return post_rows(wrk, self.server.http_url, name, x, rows=rows, concurrency=concurrency, seconds=seconds)

    def _model_name(self, contestant: Contestant) -> str:
        return "_".join([self.config.model_name, str(contestant.number), *contestant.variant.split()])

    def _experiment(self, contestant: Contestant) -> StandaloneExperiment:
        """Experiment of the runner, with all contestants' models in one repository."""
        number, name = contestant.number, self._model_name(contestant)
        shared = self.folder / f"shared_{name}"
        config = dataclasses.replace(self.config, model_name=name)
        return StandaloneExperiment(
            config,
            number,
            contestant.parameters,
            workspace=self.folder,
            folder=shared,
            model_store=_store(self.folder),
            logs=self.folder,
        )


@contextlib.contextmanager
def serving(config: RunConfig, folder: Path) -> Iterator[Serving]:
    """Yields a server without models, which is ended when the block is left. ``folder`` is created. Raises
    ServerError."""
    _store(folder).mkdir(parents=True)
    method = config.triton_load_model_method
    with local_server(_store(folder), log_path=folder / "tritonserver.log", load_method=method) as server:
        yield Serving(config, server, folder)


def _store(folder: Path) -> Path:
    return folder / "model_store"
