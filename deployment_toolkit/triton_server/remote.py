"""Handle of a running server on any host."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.errors import AccessError, ModelError, ServerError
from deployment_toolkit.server_access.tls import tls_problem
from deployment_toolkit.server_access.url import Scheme, ServerUrl
from deployment_toolkit.triton_server.admin import admin_client
from deployment_toolkit.triton_server.config_keys import MODEL_SPEC

logger = logging.getLogger("triton")

_ANSWER_TIMEOUT_S = 10.0
_POLL_S = 0.1
_POLLS = "polling is enabled"  # Triton's message: models can't be loaded or unloaded on request
_LOADED = ("LOADING", "READY", "UNLOADING")


class TritonServer:
    """A running server, given by the URL of at least one of its protocols.

    ``pid`` is the process id of a server on this host that this process started, else None; its model processes are
    its children. ``poll`` returns the exit code of such a server, None while it runs. ``log_path`` is its log;
    ``key_file`` holds the key of its restricted endpoints, which every method finds by itself. Every method opens a new
    connection, so any thread may use a handle. Methods raise ServerError if the server can't be reached or answers with
    an error.
    """

    def __init__(
        self,
        *,
        http_url: ServerUrl | str | None = None,
        grpc_url: ServerUrl | str | None = None,
        metrics_url: str | None = None,
        pid: int | None = None,
        poll: Callable[[], int | None] = lambda: None,
        log_path: Path | None = None,
        key_file: Path | None = None,
    ) -> None:
        urls = [ServerUrl.of(url) for url in (http_url, grpc_url) if url is not None]
        self._urls = {url.scheme: url for url in urls}
        self._metrics_url = metrics_url
        self.pid = pid
        self.poll = poll
        self.log_path = log_path
        self.key_file = key_file
        self._url = urls[0]

    @classmethod
    def from_url(cls, url: ServerUrl | str) -> TritonServer:
        """Server at one URL, of either protocol."""
        parsed = ServerUrl.of(url)
        return cls(grpc_url=parsed) if parsed.scheme == Scheme.GRPC else cls(http_url=parsed)

    @property
    def http_url(self) -> str:
        """URL of the HTTP protocol, ``http://host:port`` or ``https://host:port``."""
        return self._known(Scheme.HTTP)

    @property
    def grpc_url(self) -> str:
        """URL of the gRPC protocol, ``grpc://host:port`` or ``grpcs://host:port``."""
        return self._known(Scheme.GRPC)

    @property
    def urls(self) -> list[ServerUrl]:
        """Known URLs of the server."""
        return list(self._urls.values())

    @property
    def metrics_url(self) -> str:
        """URL of the metrics, ``http://host:port/metrics``."""
        if self._metrics_url is None:
            raise ServerError(f"the metrics address of the server at {self._url} is not known: give its URL")
        return self._metrics_url

    def __str__(self) -> str:
        return str(self._url)

    def is_ready(self, timeout_s: float = 1.0) -> bool:
        """True if the server answers within ``timeout_s`` that it is ready. Raises AccessError if certificates or
        headers are wrong, which no waiting mends."""
        try:
            with admin_client(self._url, timeout_s=timeout_s, explained=self._url.secure) as client:
                return client.is_ready()
        except AccessError:
            raise
        except ServerError:
            return False

    def wait_ready(self, timeout_s: float) -> None:
        """Returns when the server is ready. Raises ServerError if it is not within ``timeout_s``, AccessError at
        once."""
        deadline = time.monotonic() + timeout_s
        while not self.is_ready(max(0.1, min(1.0, deadline - time.monotonic()))):
            if time.monotonic() > deadline:
                problem = tls_problem(self._url)
                told = "is it started there?" if problem is None else problem.text
                raise ServerError(f"no server is ready at {self._url} after {timeout_s:g} s: {told}")
            time.sleep(_POLL_S)

    def load_model(self, name: str, timeout_s: float) -> None:
        """Loads the model and returns when it answers; if the server polls its repository, only waits.

        Raises ServerError if the model is not in the server's repository, can't be loaded or takes longer than
        ``timeout_s``.
        """
        self._require_in_repository(name)
        logger.info("waiting up to %g s for %s to load model %s", timeout_s, self._url, name)
        started = time.monotonic()
        try:
            with admin_client(self._url, timeout_s=timeout_s) as client:
                client.load(name)
        except ServerError as error:
            if _POLLS not in str(error):
                raise ServerError(f"model {name} could not be loaded: {error}{self._see_log()}") from error
            self._wait_for_model(name, started + timeout_s)
        self.require_model(name)
        logger.info("model %s is ready after %.1f s", name, time.monotonic() - started)

    def unload_model(self, name: str) -> bool:
        """Requests that the server unloads the model. False if the server polls its repository: then it unloads the
        model when its files are gone. Raises ServerError if the model is not in the server's repository."""
        self._require_in_repository(name)
        try:
            with admin_client(self._url, timeout_s=_ANSWER_TIMEOUT_S) as client:
                client.unload(name)
        except ServerError as error:
            if _POLLS in str(error):
                return False
            raise
        return True

    def ready_models(self) -> list[str]:
        """Names of the models of which the server has a version that is ready."""
        with admin_client(self._url, timeout_s=_ANSWER_TIMEOUT_S) as client:
            return sorted({entry["name"] for entry in client.index() if entry.get("state") == "READY"})

    def has_loaded(self, name: str) -> bool:
        """True if the server holds a version of the model in memory, or is loading or unloading one."""
        with admin_client(self._url, timeout_s=_ANSWER_TIMEOUT_S) as client:
            if client.is_model_ready(name, ""):  # the index has no entry for a model whose files are gone
                return True
            return any(entry["name"] == name and entry.get("state") in _LOADED for entry in client.index())

    def wait_unloaded(self, name: str, timeout_s: float) -> None:
        """Returns when the server has unloaded the model. Raises ServerError if it has not within ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while self.has_loaded(name):
            if time.monotonic() > deadline:
                raise ServerError(f"the server at {self._url} still holds model {name} after {timeout_s:g} s")
            time.sleep(_POLL_S)

    def require_model(self, name: str, version: str = "") -> None:
        """Raises ServerError, which names the ready versions or the model's state, unless this version of the model
        answers; an empty version is the server's choice."""
        with admin_client(self._url, timeout_s=_ANSWER_TIMEOUT_S) as client:
            if client.is_model_ready(name, version):
                return
        entries = self._require_in_repository(name)
        ready = sorted(entry["version"] for entry in entries if entry.get("state") == "READY")
        if ready:
            raise ServerError(
                f"model {name} of the server at {self._url} has no version {version} that answers: ask for version "
                f"{' or '.join(ready)}"
            )
        reasons = {entry["reason"] for entry in entries if entry.get("reason")}
        state = f" ({'; '.join(sorted(reasons))})" if reasons else ""
        raise ServerError(f"model {name} of the server at {self._url} is not loaded{state}: load it first")

    def model_config(self, name: str, version: str = "") -> dict[str, Any]:
        """Complete configuration of a loaded model, in the form of the server's HTTP interface."""
        with admin_client(self._url, timeout_s=_ANSWER_TIMEOUT_S) as client:
            return client.config(name, version)

    def model_statistics(self, name: str, version: str = "") -> dict[str, dict[str, int]]:
        """Count and nanoseconds of a model's requests since it was loaded, by what the server counts: ``success``,
        ``queue``, ``compute_infer`` …"""
        with admin_client(self._url, timeout_s=_ANSWER_TIMEOUT_S) as client:
            return dict(client.statistics(name, version)["model_stats"][0]["inference_stats"])

    def model_spec(self, name: str, version: str = "") -> ModelSpec:
        """Signature of a loaded model; value ranges and columns come from the parameter ``model_spec`` of its
        configuration, if it has one."""
        with admin_client(self._url, timeout_s=_ANSWER_TIMEOUT_S) as client:
            metadata = client.metadata(name, version)
            config = client.config(name, version)
        spec = ModelSpec(
            inputs=tuple(_tensor_spec(item) for item in metadata["inputs"]),
            outputs=tuple(_tensor_spec(item) for item in metadata["outputs"]),
        )
        return spec.described_by(described_spec(name, config.get("parameters", {})))

    def _known(self, scheme: Scheme) -> str:
        if scheme not in self._urls:
            raise ServerError(f"the server at {self._url} is not known by {scheme}: give its {scheme}:// URL")
        return str(self._urls[scheme])

    def _require_in_repository(self, name: str) -> list[dict[str, Any]]:
        """Entries of the server's index for each version of the model. Raises ServerError if there is none."""
        with admin_client(self._url, timeout_s=_ANSWER_TIMEOUT_S) as client:
            index = client.index()
        entries = [entry for entry in index if entry["name"] == name]
        if not entries:
            names = ", ".join(sorted({entry["name"] for entry in index})) or "nothing"
            raise ServerError(
                f"there is no model {name} in the repository of the server at {self._url}: it holds {names}"
            )
        return entries

    def _wait_for_model(self, name: str, deadline: float) -> None:
        while time.monotonic() < deadline:
            with admin_client(self._url, timeout_s=_ANSWER_TIMEOUT_S) as client:
                if client.is_model_ready(name, ""):
                    return
            time.sleep(_POLL_S)

    def _see_log(self) -> str:
        return f"; the server's log is {self.log_path}" if self.log_path is not None else ""


def described_spec(name: str, parameters: Mapping[str, Any]) -> ModelSpec | None:
    """Signature, with value ranges and columns, in the parameter ``model_spec`` of model ``name``'s configuration; None
    without it."""
    parameter = parameters.get(MODEL_SPEC)
    if parameter is None:
        return None
    try:
        return ModelSpec.read(parameter["string_value"], f"model {name}'s configuration")
    except (KeyError, TypeError, ModelError) as error:
        raise ServerError(f"parameter {MODEL_SPEC} of model {name} is not a signature: deploy it again") from error


def _tensor_spec(plain: dict[str, Any]) -> TensorSpec:
    """Signature of a metadata entry, whose shape starts with the batch dimension."""
    return TensorSpec(plain["name"], np.dtype(triton_to_np_dtype(plain["datatype"])).name, tuple(plain["shape"][1:]))
