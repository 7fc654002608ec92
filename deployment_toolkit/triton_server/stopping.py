"""The end of a server in order: it answers what is in flight and takes no more.

Tritonserver (2.51.0) by itself closes its ports when it gets SIGTERM, but goes on to take requests on the connections
that it has, over HTTP and gRPC alike. When ``--exit-timeout-secs`` is over, it drops what is in flight.
"""

from __future__ import annotations

import logging
import time

from deployment_toolkit.endings.interrupts import repeated_interrupts
from deployment_toolkit.errors import DeploymentError
from deployment_toolkit.triton_server.remote import TritonServer

logger = logging.getLogger("triton")

_POLL_S = 0.05


def answer_and_refuse(server: TritonServer, timeout_s: float) -> None:
    """Unloads all models of a server that is about to be ended: each request that the server has taken is answered, and
    each later one is refused. Returns when no model is left, at the latest after ``timeout_s``, or at once if the user
    interrupts again. A server that polls its repository goes on to take requests: it unloads nothing by request."""
    deadline = time.monotonic() + timeout_s
    try:
        left = _in_order(server, server.ready_models())
        for name in left:
            if not server.unload_model(name):
                return
        while left and server.poll() is None and not repeated_interrupts():
            if time.monotonic() > deadline:
                logger.warning(
                    "the server at %s still holds %s after %g s: it drops requests that it does not answer soon",
                    server,
                    " and ".join(left),
                    timeout_s,
                )
                return
            left = [name for name in left if server.has_loaded(name)]
            time.sleep(_POLL_S if left else 0)
    except DeploymentError as error:  # it has ended, or its container engine
        logger.debug("the models of the server at %s are not unloaded: %s", server, error)


def _in_order(server: TritonServer, names: list[str]) -> list[str]:
    """Ensembles first: what they are made of answers what they have in flight."""
    return sorted(names, key=lambda name: server.model_config(name).get("platform") != "ensemble")
