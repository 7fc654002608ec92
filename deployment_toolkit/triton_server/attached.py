"""Use of a tritonserver that somebody else started: it is given by its addresses and its repository folder."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from deployment_toolkit.errors import ServerError
from deployment_toolkit.files.atomic import remove
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_server.remote import TritonServer

logger = logging.getLogger("triton")

_UNLOAD_TIMEOUT_S = 60.0


@contextlib.contextmanager
def attached_server(
    model_repository: Path,
    *,
    http_url: ServerUrl | str,
    grpc_url: ServerUrl | str,
    models: Sequence[str],
    timeout_s: float = 60.0,
) -> Iterator[TritonServer]:
    """Yields a ready server that this process neither starts nor ends. ``model_repository`` is the folder that it
    serves, by its path on this host.

    ``models`` are the names of the models that the block may add and load; a model comes after the models that it
    needs. They belong to the block: when it is left, they are unloaded and their folders removed.

    Raises ServerError if the folder is missing or can't be written, if the server is not ready within
    ``timeout_s`` at one of its addresses, or if it has a model of one of the names already.
    """
    if not model_repository.is_dir():
        raise ServerError(f"there is no model repository at {model_repository}: give the folder that the server serves")
    if not os.access(model_repository, os.W_OK | os.X_OK):
        raise ServerError(f"model repository {model_repository} can't be written by this user: models are put there")
    server = TritonServer(http_url=http_url, grpc_url=grpc_url)
    for url in server.urls:
        logger.info("waiting up to %g s for the server at %s", timeout_s, url)
        TritonServer.from_url(url).wait_ready(timeout_s)
    for name in models:
        if (model_repository / name).exists() or server.has_loaded(name):
            raise ServerError(
                f"the server at {server} has a model {name} already, which is not overwritten: remove it from "
                f"{model_repository}, or choose another name"
            )
    try:
        yield server
    finally:
        for name in reversed(models):
            _take_back(server, model_repository / name)


def _take_back(server: TritonServer, folder: Path) -> None:
    """Unloads a model and removes its folder, also if the server is gone."""
    name = folder.name
    try:
        if server.has_loaded(name) and server.unload_model(name):
            server.wait_unloaded(name, _UNLOAD_TIMEOUT_S)
        remove(folder)
        server.wait_unloaded(name, _UNLOAD_TIMEOUT_S)  # a polling server unloads by itself
    except ServerError as error:
        remove(folder)
        logger.error("model %s may still be loaded, its folder is removed: %s", name, error)
