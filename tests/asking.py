"""Many requests at once, and what the server counted of them."""

from __future__ import annotations

import json
import time
import urllib.request
from contextlib import closing
from typing import Any

from deployment_toolkit.core import Arrays
from deployment_toolkit.errors import InferenceError
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.grpc import GrpcTransport
from deployment_toolkit.triton_server.remote import TritonServer


def ask(server: TritonServer, model: str, batches: list[Arrays]) -> list[Arrays | InferenceError]:
    """Sends all requests at once. Returns what each was answered."""
    answers: list[Arrays | InferenceError] = []
    with closing(GrpcTransport(ServerUrl.parse(server.grpc_url), model, "1", len(batches))) as transport:
        for response in [transport.send(x) for x in batches]:
            try:
                answers.append(response.result(30))
            except InferenceError as error:
                answers.append(error)
    return answers


def statistics(server: TritonServer, model: str) -> dict[str, Any]:
    """The server's own, of one version."""
    with urllib.request.urlopen(f"{server.http_url}/v2/models/{model}/stats") as answer:
        found: dict[str, Any] = json.load(answer)["model_stats"][0]
        return found


def executions(server: TritonServer, model: str, at_least: int) -> int:
    """Batches that the server has run, at best ``at_least``: it counts one after it has answered."""
    deadline = time.monotonic() + 10
    while (count := int(statistics(server, model)["execution_count"])) < at_least and time.monotonic() < deadline:
        time.sleep(0.02)
    return count
