"""Models of the campaign: deployed on both hosts, with rows and the engine's own answers to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.cpp_models import TOLERANCES, arithmetic_of, hosted_format
from deployment_toolkit.core import Arrays, Batch, Batching, Host, ModelSpec
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.errors import DeploymentError
from deployment_toolkit.library.registry import loader
from deployment_toolkit.rows.sample import random_rows
from deployment_toolkit.triton_inference_runner.base import open_session
from deployment_toolkit.triton_server.config_keys import INFERENCE_PRECISION

HOSTS = (Host.CPP, Host.PYTHON)
MOST_ROWS = 256
LOAD_S = 120.0
_ANSWER_S = 60.0


@dataclass(frozen=True)
class AskedModel:
    """A model under a name; ``expected`` are the answers of its engine in this process to all ``rows`` [MOST_ROWS, …]
    at once, ``tolerance`` bounds a served answer's difference from them."""

    name: str
    model: Path
    spec: ModelSpec
    rows: Arrays
    expected: Arrays
    tolerance: float

    def served_name(self, host: Host) -> str:
        """Name of the model that ``host`` runs."""
        return f"{self.name}_{host}"

    def batch(self, random: np.random.Generator) -> tuple[Batch, Arrays]:
        """Some rows in a row, of a random number, and their answers."""
        size = int(min(MOST_ROWS, 1 + random.exponential(24)))
        first = int(random.integers(MOST_ROWS - size + 1))
        cut = slice(first, first + size)
        x = {name: array[cut] for name, array in self.rows.items()}
        return Batch(np.arange(size), x), {name: array[cut] for name, array in self.expected.items()}


def prepare(models: Mapping[str, Path], seed: int) -> tuple[AskedModel, ...]:
    """Loads each model once, for its signature and its answers. Raises ModelError, UsageError."""
    return tuple(_prepare(name, model, seed) for name, model in models.items())


def _prepare(name: str, model: Path, seed: int) -> AskedModel:
    session = loader(hosted_format(model))().load(model)
    rows = random_rows(session.spec, MOST_ROWS, seed)
    return AskedModel(name, model, session.spec, rows, session.infer(rows), TOLERANCES[arithmetic_of(model)])


def deploy(repository: Path, subject: AskedModel, **settings: object) -> None:
    """Adds the model to a repository once for each host; ``settings`` are further ones of ``Deployment``."""
    repository.mkdir(parents=True, exist_ok=True)
    for host in HOSTS:
        parameters = {INFERENCE_PRECISION: arithmetic_of(subject.model)} if host is Host.CPP else {}
        deployment = Deployment(
            subject.served_name(host),
            subject.spec,
            hosted_format(subject.model),
            host=host,
            batching=Batching.DYNAMIC,
            max_batch_size=MOST_ROWS,
            backend_parameters=parameters,
            **settings,  # type: ignore[arg-type]
        )
        add_model(repository, deployment, subject.model, links=True)


@dataclass
class Asked:
    """Right requests so far: how many, how many were answered wrong, and the errors of those without an answer."""

    good: int = 0
    wrong: int = 0
    errors: list[str] = field(default_factory=list)


@contextmanager
def asking(url: str, subject: AskedModel, host: Host, random: np.random.Generator) -> Iterator[Asked]:
    """Within the block a thread sends right requests, one after the other, and compares each answer."""
    asked, done = Asked(), threading.Event()
    thread = threading.Thread(target=_ask, args=(url, subject, host, random, asked, done), name="asking")
    thread.start()
    try:
        yield asked
    finally:
        done.set()
        thread.join()


def _ask(
    url: str, subject: AskedModel, host: Host, random: np.random.Generator, asked: Asked, done: threading.Event
) -> None:
    while not done.is_set():
        try:
            with open_session(
                url,
                subject.served_name(host),
                synchronous=True,
                max_unresponded_requests=1,
                response_wait_time_s=_ANSWER_S,
            ) as session:
                while not done.is_set():
                    batch, expected = subject.batch(random)
                    (prediction,) = session.predict([batch])
                    asked.good += 1
                    asked.wrong += not is_right(subject, prediction.y_pred, expected)
        except DeploymentError as error:
            asked.errors.append(str(error))
            time.sleep(0.05)  # a server that is gone is not asked in a tight loop


def is_right(subject: AskedModel, answer: Arrays, expected: Arrays) -> bool:
    """True if each value is within the model's tolerance of what the engine answered."""
    return all(
        answer[name].shape == values.shape and float(np.abs(answer[name] - values).max()) <= subject.tolerance
        for name, values in expected.items()
    )
