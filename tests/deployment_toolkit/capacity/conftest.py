from __future__ import annotations

from collections.abc import Iterator

import pytest

from deployment_toolkit.deploying.queue_policy import QueuePolicy
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.overload import add_slow_model

SERVICE_S = {"quick": 0.008, "slow": 0.024, "limited": 0.04}  # of a batch of at most 8 rows, by model


@pytest.fixture(scope="package")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server with models of known speed: two instances answer batches of at most 4 rows in a fixed time each. The
    queue of ``limited`` is short."""
    folder = tmp_path_factory.mktemp("slow")
    for name, service_s in SERVICE_S.items():
        policy = QueuePolicy(max_queue_size=8) if name == "limited" else QueuePolicy()
        add_slow_model(folder / "repository", name, policy, service_s)
    with local_server(folder / "repository", log_path=folder / "server.log") as server:
        for name in SERVICE_S:
            server.load_model(name, timeout_s=60)
        yield server
