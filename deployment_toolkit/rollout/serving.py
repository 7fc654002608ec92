"""What a server serves of a model, and requests to it that change that."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable

from deployment_toolkit.core import Host
from deployment_toolkit.cpp_host.library import BACKEND
from deployment_toolkit.deploying.loading import NO_BACKEND
from deployment_toolkit.deploying.model_config import differences
from deployment_toolkit.errors import BackendError, ServerError
from deployment_toolkit.files.atomic import remove
from deployment_toolkit.rollout.model_folder import ModelFolder
from deployment_toolkit.rollout.record import Site
from deployment_toolkit.triton_server.admin import admin_client
from deployment_toolkit.triton_server.remote import TritonServer

logger = logging.getLogger("rollout")

_ANSWER_TIMEOUT_S = 10.0
_POLL_S = 0.1
_NOT_ON_REQUEST = "polling is enabled"  # Triton's message, also in its mode none


def ready_versions(site: Site, name: str) -> list[int]:
    """Versions of a model that answer, ascending."""
    with admin_client(site.url, timeout_s=_ANSWER_TIMEOUT_S) as client:
        entries = [entry for entry in client.index() if entry["name"] == name and entry.get("state") == "READY"]
    return sorted(int(entry["version"]) for entry in entries)


def require_loading_on_request(site: Site) -> None:
    """Raises ServerError if the server loads and unloads no model by request."""
    try:
        with admin_client(site.url, timeout_s=_ANSWER_TIMEOUT_S) as client:
            client.unload(site.candidate_name)  # there is none yet
    except ServerError as error:
        if _NOT_ON_REQUEST in str(error):
            raise ServerError(
                f"the server at {site.url} loads no model by request: start it with --model-control-mode=explicit"
            ) from error


def load(site: Site, name: str, versions: Collection[int]) -> None:
    """Has the server load the model as its files are now; returns when it serves exactly these versions, with the
    configuration that is on disk. Requests that are sent meanwhile are answered by the versions before.

    Raises ServerError, with the server's reason, if it can't, or not within the site's limit.
    """
    deadline = time.monotonic() + site.load_timeout_s
    logger.info("waiting up to %g s for %s to load model %s", site.load_timeout_s, site.url, name)
    try:
        with admin_client(site.url, timeout_s=site.load_timeout_s) as client:
            client.load(name)
    except ServerError as error:
        if NO_BACKEND in str(error):
            raise BackendError(
                f"the server at {site.url} has no backend for model {name}: deploy the new model with --host "
                f"{_host(site)}, as the one that is served ({error})"
            ) from error
        raise ServerError(f"model {name} could not be loaded: {error}") from error
    while (found := ready_versions(site, name)) != sorted(versions):
        if time.monotonic() > deadline:
            raise ServerError(
                f"the server at {site.url} serves version {told(found)} of model {name} after "
                f"{site.load_timeout_s:g} s, not {told(versions)}: is something else loading it?"
            )
        time.sleep(_POLL_S)
    changed = other_configuration(site, ModelFolder.read(site.repository / name), versions)
    if changed:
        raise ServerError(
            f"the server at {site.url} runs model {name} with {changed}: start it with "
            "--disable-auto-complete-config, so that it adds nothing to a configuration"
        )


def _host(site: Site) -> Host:
    """The host of the model that is served."""
    backend = ModelFolder.read(site.live).config.backend
    return {BACKEND: Host.CPP, "python": Host.PYTHON}.get(backend, Host.NATIVE)


def serve_again(site: Site, versions: Collection[int]) -> None:
    """Has the server load the model unless it serves exactly these versions, as when it was started anew. Raises
    ServerError if it can't."""
    if ready_versions(site, site.name) != sorted(versions):
        load(site, site.name, versions)


def other_configuration(site: Site, folder: ModelFolder, versions: Collection[int]) -> str:
    """What the server's configuration of these versions has in place of the file's; an empty text if nothing. Which
    versions are named does not count: a version that stays loaded keeps the text of when it was loaded."""
    server = TritonServer.from_url(site.url)
    served = server.model_config(folder.path.name, str(max(versions)))
    return "; ".join(item for item in differences(folder.config, served) if not item.startswith("versions: "))


def take_candidate_away(site: Site) -> None:
    """Unloads the candidate, which nobody asks by its name, and removes its folder."""
    server = TritonServer.from_url(site.url)
    if server.has_loaded(site.candidate_name):
        with admin_client(site.url, timeout_s=_ANSWER_TIMEOUT_S) as client:
            client.unload(site.candidate_name)  # also if somebody has removed its folder
        server.wait_unloaded(site.candidate_name, site.load_timeout_s)
    remove(site.staged)


def told(versions: Iterable[int]) -> str:
    """Versions in a message."""
    return " and ".join(map(str, sorted(versions))) or "none"
