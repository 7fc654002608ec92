"""Right requests to one server for a long time, odd ones among them; its memory and its open files must not grow."""

from __future__ import annotations

import contextlib
import time
from contextlib import ExitStack

import numpy as np
import psutil

from benchmarks.faults.episode import Outcome, Setting
from benchmarks.faults.odd import kinds, odd_request
from benchmarks.faults.subjects import HOSTS, LOAD_S, asking, deploy
from benchmarks.faults.wire import connect
from deployment_toolkit.process_memory import process_tree, tree_memory
from deployment_toolkit.triton_server.local import local_server

_GROWTH_MIB, _GROWTH = 48, 0.10  # what a server may grow by after its first minutes: this much, or this share
_MIB = 2**20


def soak(setting: Setting, number: int, random: np.random.Generator, outcome: Outcome) -> None:
    """Both hosts over both protocols at once, each asked all the time; ten odd requests a second."""
    subject = setting.subjects[(number - 1) % len(setting.subjects)]
    repository = setting.folder / f"soak_{number}"
    deploy(repository, subject)
    log = setting.output_dir / "soak.log"
    samples: list[tuple[float, int]] = []  # MiB and open files, one a second
    with local_server(repository, log_path=log, env=setting.environment) as server, ExitStack() as stack:
        for host in HOSTS:
            server.load_model(subject.served_name(host), LOAD_S)
        beside = [
            stack.enter_context(asking(url, subject, host, np.random.default_rng(random.integers(2**32))))
            for host in HOSTS
            for url in (server.grpc_url, server.http_url)
        ]
        connections = {"http": connect(server.http_url), "grpc": connect(server.grpc_url)}
        deadline = time.monotonic() + setting.seconds
        assert server.pid is not None
        while time.monotonic() < deadline and server.poll() is None:
            begun = time.monotonic()
            samples.append((tree_memory(server.pid).pss_bytes / _MIB, _open_files(server.pid)))
            for protocol, connection in connections.items():
                chosen = list(kinds(protocol, proxied=False).values())
                rows = {name: array[:2] for name, array in subject.rows.items()}
                for change in random.permutation(len(chosen))[:5]:
                    name = subject.served_name(HOSTS[int(random.integers(2))])
                    connection.send(odd_request(chosen[int(change)], name, subject.spec, rows, random))
                    outcome.add("odd")
            time.sleep(max(0.0, begun + 1 - time.monotonic()))
        for connection in connections.values():
            connection.close()
        outcome.add("crashes", int(server.poll() is not None), "the server ended by itself")
    for asked in beside:
        outcome.add("good", asked.good)
        outcome.add("wrong", asked.wrong)
        outcome.add("unanswered", len(asked.errors), "; ".join(asked.errors[:1]))
    outcome.add("starts")
    _judge(samples, outcome)


def _judge(samples: list[tuple[float, int]], outcome: Outcome) -> None:
    """Compares the last tenth with the second one."""
    tenth = max(1, len(samples) // 10)
    early, late = samples[tenth : 2 * tenth] or samples[:1], samples[-tenth:]
    (memory, files), (memory_late, files_late) = (np.median(part, axis=0) for part in (early, late))
    outcome.subject = (
        f"both hosts: {memory:.0f} MiB then {memory_late:.0f}, {files:.0f} open files then {files_late:.0f}"
    )
    grown = memory_late - memory > max(_GROWTH_MIB, _GROWTH * memory)
    outcome.add("others", int(grown), f"memory grew from {memory:.0f} to {memory_late:.0f} MiB")
    outcome.add("others", int(files_late > files + 8), f"open files grew from {files:.0f} to {files_late:.0f}")


def _open_files(pid: int) -> int:
    count = 0
    for process in process_tree(pid):
        with contextlib.suppress(psutil.Error):
            count += process.num_fds()
    return count
