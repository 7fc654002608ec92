"""The server's command told to end in the ways that hosts have, while it is asked; nothing of it may stay."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.faults.episode import Outcome, Setting
from benchmarks.faults.left_behind import shared_memory, unused_shared_memory, wait_for_ends
from benchmarks.faults.subjects import HOSTS, LOAD_S, asking, deploy
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import ServerError
from deployment_toolkit.process import child
from deployment_toolkit.server_access.ports import choose_free
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL)
_END_S = 60.0
_START_S = 120.0


def stop(setting: Setting, number: int, random: np.random.Generator, outcome: Outcome) -> None:
    """A signal to ``python -m deployment_toolkit.triton_server`` under load, once or twice; by turns SIGTERM, SIGINT,
    SIGHUP and SIGKILL. Requests before the signal must be answered right."""
    chosen = _SIGNALS[(number - 1) % len(_SIGNALS)]
    twice = chosen is not signal.SIGKILL and bool(random.integers(2))
    host = HOSTS[int(random.integers(2))]
    subject = setting.subjects[int(random.integers(len(setting.subjects)))]
    outcome.subject = f"{chosen.name}{' twice' if twice else ''}, {host} host"
    repository = setting.folder / f"stops_{subject.name}"
    if not repository.exists():
        deploy(repository, subject)
    before = shared_memory()
    ports = choose_free({"http": None, "grpc": None, "metrics": None})
    ready = setting.folder / "ready"
    ready.unlink(missing_ok=True)
    # The campaign itself may have been started with nohup.
    command: list[str | Path] = [
        "env",
        "--default-signal=HUP",
        sys.executable,
        "-m",
        "deployment_toolkit.triton_server",
    ]
    command += ["--model-repository", repository, "--log-path", setting.output_dir / "stops.log", "--ready-file", ready]
    command += [text for name, port in ports.items() for text in (f"--{name}-port", str(port))]
    env = {**setting.environment, "PYTHONPATH": str(ROOT)}
    with child(command, env=env, stdout=setting.folder / "stop.log") as process:
        deadline = time.monotonic() + _START_S
        while not ready.exists():
            if process.wait(0.05) is not None or time.monotonic() > deadline:
                outcome.add("others", 1, f"the server did not start: {process.output()[0][-200:]}")
                return
        outcome.add("starts")
        server = TritonServer(
            http_url=f"http://127.0.0.1:{ports['http']}", grpc_url=f"grpc://127.0.0.1:{ports['grpc']}"
        )
        server.load_model(subject.served_name(host), LOAD_S)
        with ExitStack() as stack:
            beside = [
                stack.enter_context(asking(url, subject, host, np.random.default_rng(random.integers(2**32))))
                for url in (server.grpc_url, server.http_url)
            ]
            time.sleep(float(random.uniform(0.1, min(3.0, setting.seconds))))
            errors = [len(one.errors) for one in beside]
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, chosen)
                if twice:
                    time.sleep(float(random.uniform(0, 1)))
                    os.kill(process.pid, chosen)
            code = process.wait(_END_S)
        outcome.add("kills", int(chosen is signal.SIGKILL))
        outcome.add("others", int(code is None), f"it still runs {_END_S:g} s after {chosen.name}")
    for asked, count in zip(beside, errors, strict=True):
        outcome.add("good", asked.good)
        outcome.add("wrong", asked.wrong)
        outcome.add("unanswered", count, "; ".join(asked.errors[:1]))
    left = wait_for_ends(setting.environment, 15)
    if chosen is signal.SIGKILL:  # the next start removes what a killed one left
        with contextlib.suppress(ServerError):
            _start_once(setting, repository)
    left += unused_shared_memory(before)
    outcome.add("left_behind", len(left), f"left: {left}")


def _start_once(setting: Setting, repository: Path) -> None:
    with local_server(repository, log_path=setting.folder / "next.log", env=setting.environment):
        pass
