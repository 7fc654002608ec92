"""Loading of a deployment on a server, and checks that the server runs it as requested."""

from __future__ import annotations

import logging
import time

import numpy as np

from deployment_toolkit.core import Batch, Host, LoadMethod, ModelSpec
from deployment_toolkit.cpp_host.library import build_library
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_config import config_text, differences, parse_config
from deployment_toolkit.deploying.model_repository import Package
from deployment_toolkit.errors import BackendError, BuildError, ServerError
from deployment_toolkit.rows.sample import nearest_to_zero
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.base import open_session
from deployment_toolkit.triton_server.remote import TritonServer

logger = logging.getLogger("triton")

_POLL_S = 0.2
NO_BACKEND = "unable to find backend library"
_NO_GPU = "no GPUs are available"
_PROBE_TIMEOUT_S = 60.0


def load_and_check(url: ServerUrl | str, deployment: Deployment, *, method: LoadMethod, timeout_s: float) -> None:
    """Returns when the server at ``url`` runs the deployment with the requested configuration and has answered a
    request of one row. A server that polls loads the model by itself; otherwise this function sends a load request.

    Raises ServerError, with the server's message, if it can't load the model within ``timeout_s``, runs it in another
    way or does not answer; BackendError at once if it has no backend for the format.
    """
    url = ServerUrl.of(url)
    try:
        load_package(url, _package(deployment), method=method, timeout_s=timeout_s)
    except ServerError as error:
        if NO_BACKEND in str(error) and deployment.host is Host.CPP:
            raise BackendError(f"the server at {url} has no C++ host: {_without_cpp_host()} ({error})") from error
        if NO_BACKEND in str(error):
            raise BackendError(
                f"the server at {url} has no backend for {deployment.format}: deploy with --host python ({error})"
            ) from error
        if _NO_GPU in str(error):
            raise ServerError(
                f"the server at {url} has no GPU for the engines of model {deployment.name}: give "
                f"--engine-count-per-device cpu=N, or use a server on a GPU host ({error})"
            ) from error
        raise


def _without_cpp_host() -> str:
    """Remedy for a server without the C++ host, from this machine's installation."""
    try:
        build_library()
    except BuildError as reason:
        return f"{reason}; then restart the server"
    return "here it is compiled, so restart the embedded server; no other server has it: deploy with --host python"


def is_running(url: ServerUrl | str, deployment: Deployment) -> bool:
    """True if the server at ``url`` runs the model in exactly this configuration; False also if there is no server."""
    server = TritonServer.from_url(url)
    try:
        server.require_model(deployment.name, str(deployment.version))
        return not _changes(server, _package(deployment))
    except ServerError:
        return False


def _package(deployment: Deployment) -> Package:
    return Package(deployment.name, deployment.version, deployment.spec, config_text(deployment))


def load_package(url: ServerUrl | str, package: Package, *, method: LoadMethod, timeout_s: float) -> None:
    """Variant of ``load_and_check`` for a package of any content."""
    url = ServerUrl.of(url)
    server = TritonServer.from_url(url)
    deadline = time.monotonic() + timeout_s
    if method is LoadMethod.EXPLICIT:
        server.load_model(package.name, timeout_s)
        changed = _changes(server, package)
    else:
        changed = _wait_until_polled(server, package, deadline)
    if changed:
        raise ServerError(
            f"the server at {url} runs model {package.name} with {'; '.join(changed)}: start it with "
            "--disable-auto-complete-config, so that it adds nothing to a configuration"
        )
    _ask_one_row(url, package)


def sample_row(spec: ModelSpec) -> Batch:
    """One row that the model accepts: zeros, the id nearest to zero for an input with bounds, and empty strings; by the
    inputs of its original signature, as a session takes them."""
    x = {tensor.name: nearest_to_zero(tensor, (1, *tensor.smallest_shape)) for tensor in spec.unpacked.inputs}
    return Batch(np.zeros(1, np.int32), x)


def _changes(server: TritonServer, package: Package) -> list[str]:
    served = server.model_config(package.name, str(package.version))
    return differences(parse_config(package.config), served)


def _wait_until_polled(server: TritonServer, package: Package, deadline: float) -> list[str]:
    """Waits until the server runs the new configuration; before, it may run an older one. Returns the differences."""
    logger.info("waiting for %s to find model %s in its repository", server, package.name)
    backend = parse_config(package.config).backend
    # The server may still tell of the backend that an earlier configuration asked for.
    hopeless = [f"{NO_BACKEND} for backend '{backend}'" if backend else NO_BACKEND]
    hopeless += [_NO_GPU] if "KIND_GPU" in package.config else []
    while True:
        try:
            server.require_model(package.name, str(package.version))
            changed = _changes(server, package)
            if not changed or time.monotonic() > deadline:
                return changed
        except ServerError as error:
            # A reason that can't apply to this configuration is still about an earlier one.
            if any(reason in str(error) for reason in hopeless) or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)


def _ask_one_row(url: ServerUrl | str, package: Package) -> None:
    with open_session(
        url,
        package.name,
        str(package.version),
        synchronous=True,
        max_unresponded_requests=1,
        response_wait_time_s=_PROBE_TIMEOUT_S,
    ) as session:
        for _ in session.predict(iter([sample_row(package.spec)])):
            logger.info("model %s answers", package.name)
