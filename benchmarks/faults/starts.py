"""Starts of a server that is asked at once in many sizes, and stopped; nothing of it may stay."""

from __future__ import annotations

import numpy as np

from benchmarks.faults.episode import Outcome, Setting
from benchmarks.faults.left_behind import shared_memory, unused_shared_memory, wait_for_ends
from benchmarks.faults.subjects import HOSTS, LOAD_S, MOST_ROWS, deploy, is_right
from deployment_toolkit.core import Batch
from deployment_toolkit.errors import DeploymentError
from deployment_toolkit.triton_inference_runner.base import open_session
from deployment_toolkit.triton_server.local import local_server

_SIZES = (1, 2, 7, 32, 64, 100, MOST_ROWS)


def start(setting: Setting, number: int, random: np.random.Generator, outcome: Outcome) -> None:
    """One start: one model on one host, all sizes in a random order, by one protocol."""
    host = HOSTS[number % 4 == 0]  # three of four are the default's, which has more that can differ between starts
    protocol = ("grpc", "http")[int(random.integers(2))]
    subject = setting.subjects[int(random.integers(len(setting.subjects)))]
    outcome.subject = f"{host} host, {subject.name}"
    repository = setting.folder / f"starts_{subject.name}"
    if not repository.exists():
        deploy(repository, subject)
    before = shared_memory()
    outcome.add("starts")
    log = setting.folder / "start.log"
    log.unlink(missing_ok=True)
    try:
        with local_server(repository, log_path=log, env=setting.environment) as server:
            server.load_model(subject.served_name(host), LOAD_S)
            url = server.grpc_url if protocol == "grpc" else server.http_url
            with open_session(
                url,
                subject.served_name(host),
                synchronous=True,
                max_unresponded_requests=1,
                response_wait_time_s=60,
            ) as session:
                for size in random.permutation(_SIZES):
                    x = {name: array[:size] for name, array in subject.rows.items()}
                    (prediction,) = session.predict([Batch(np.arange(size), x)])
                    expected = {name: array[:size] for name, array in subject.expected.items()}
                    outcome.add("good")
                    outcome.add("wrong", int(not is_right(subject, prediction.y_pred, expected)), f"{size} rows")
    except DeploymentError as error:
        outcome.add("unanswered", 1, str(error))
        (setting.output_dir / f"start_{number}.log").write_bytes(log.read_bytes() if log.exists() else b"")
    left = [*wait_for_ends(setting.environment, 10), *unused_shared_memory(before)]
    outcome.add("left_behind", len(left), f"left: {left}")
