"""Odd requests to each host over each protocol, directly and through the proxy, with right requests beside them."""

from __future__ import annotations

import collections
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.faults.episode import Outcome, Setting
from benchmarks.faults.left_behind import wait_for_ends
from benchmarks.faults.odd import kinds, odd_request
from benchmarks.faults.subjects import HOSTS, LOAD_S, MOST_ROWS, AskedModel, asking, deploy
from benchmarks.faults.wire import Answer, connect
from deployment_toolkit.core import Host
from deployment_toolkit.proxy.settings import ProxyOptions
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.proxied import proxied_server
from deployment_toolkit.triton_server.remote import TritonServer

WAYS = tuple(itertools.product(HOSTS, ("http", "grpc"), (False, True)))
_CLIENTS = 2
_PORTS = {"http": None, "grpc": None, "metrics": None}


def odd_requests(setting: Setting, number: int, random: np.random.Generator, outcome: Outcome) -> None:
    """One host, one protocol, a server of its own: two clients send odd requests, one a protocol sends right ones."""
    host, protocol, proxied = WAYS[(number - 1) % len(WAYS)]
    subject = setting.subjects[int(random.integers(len(setting.subjects)))]
    outcome.subject = f"{host} host, {protocol}{', proxy' if proxied else ''}"
    repository = setting.folder / f"requests_{number}"
    deploy(repository, subject)
    log = setting.output_dir / "requests.log"
    with _server(repository, log, setting, proxied=proxied) as server:
        server.load_model(subject.served_name(host), LOAD_S)
        url = server.grpc_url if protocol == "grpc" else server.http_url
        with ExitStack() as stack:
            beside = [
                stack.enter_context(asking(one, subject, host, np.random.default_rng(random.integers(2**32))))
                for one in (server.grpc_url, server.http_url)
            ]
            sent = _send(url, subject, host, random, setting.seconds, proxied=proxied)
        crashed = server.poll() is not None
    outcome.add("starts")
    outcome.add("odd", sum(sent.values()))
    for (kind, answer), count in sent.items():
        if answer is Answer.ANSWERED:
            outcome.add("accepted", count, f"{kind}: {count} answered")
        elif answer is Answer.NONE and not crashed and kind not in ("message cut off", "length of the JSON"):
            outcome.add("others", count, f"{kind}: {count} without an answer")
    for asked in beside:
        outcome.add("good", asked.good)
        outcome.add("wrong", asked.wrong)
        outcome.add("unanswered", len(asked.errors), "; ".join(asked.errors[:1]))
    outcome.add("crashes", int(crashed), "the server ended by itself")
    left = wait_for_ends(setting.environment, 10)
    outcome.add("left_behind", len(left), f"left: {left}")


def _send(
    url: str, subject: AskedModel, host: Host, random: np.random.Generator, seconds: float, *, proxied: bool
) -> collections.Counter[tuple[str, Answer]]:
    """Sends odd requests from some clients until the time is over, or until there is no server any more."""
    counts: collections.Counter[tuple[str, Answer]] = collections.Counter()
    lock, deadline = threading.Lock(), time.monotonic() + seconds
    chosen = list(kinds("grpc" if url.startswith("grpc") else "http", proxied=proxied).items())

    def client(own: np.random.Generator) -> None:
        connection = connect(url)
        try:
            while time.monotonic() < deadline:
                name, change = chosen[int(own.integers(len(chosen)))]
                size = int(own.integers(1, 9))
                first = int(own.integers(MOST_ROWS - size))
                rows = {key: array[first : first + size] for key, array in subject.rows.items()}
                answer = connection.send(odd_request(change, subject.served_name(host), subject.spec, rows, own))
                with lock:
                    counts[name, answer] += 1
        except ConnectionError:
            return
        finally:
            connection.close()

    threads = [threading.Thread(target=client, args=(child,)) for child in random.spawn(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts


@contextmanager
def _server(repository: Path, log: Path, setting: Setting, *, proxied: bool) -> Iterator[TritonServer]:
    launch = partial(local_server, repository, log_path=log, env=setting.environment)
    with ExitStack() as stack:
        if proxied:
            yield stack.enter_context(proxied_server(launch, ProxyOptions(proxy=True), _PORTS, log))
        else:
            yield stack.enter_context(launch())
