"""Options of every tritonserver that this project starts, embedded or in a container. An image that only serves,
without a client library, imports this module too."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from deployment_toolkit.core import LoadMethod
from deployment_toolkit.errors import ServerError
from deployment_toolkit.machine import SHARED_MEMORY
from deployment_toolkit.server_access.key import INFERENCE, ServerKey

_REPOSITORY_POLL_S = 1
EXIT_TIMEOUT_S = 5  # for requests in flight when the server is told to end
REGION_PREFIX_OPTION = "--backend-config=python,shm-region-prefix-name="
COMMON_OPTIONS = (
    # Configurations are complete. Auto-completion would start every model twice, and might add a scheduler.
    "--disable-auto-complete-config",
)


def require_repository(model_repository: Path) -> Path:
    """Absolute path of a model repository. Raises ServerError if it is missing."""
    if not model_repository.is_dir():
        raise ServerError(f"there is no model repository at {model_repository}: give an existing folder")
    return model_repository.resolve()


def repository_options(model_repository: Path, load_method: LoadMethod) -> list[str]:
    """Options of a server for its models, by the absolute path of the repository."""
    options = [f"--model-repository={model_repository}", f"--model-control-mode={load_method}"]
    return [*options, f"--repository-poll-secs={_REPOSITORY_POLL_S}"] if load_method == LoadMethod.POLL else options


def exit_option(timeout_s: int) -> str:
    """Option for the time that a server may take to end; the last one counts."""
    return f"--exit-timeout-secs={timeout_s}"


def inference_options(key: ServerKey | None) -> list[str]:
    """Options of a server whose inference needs this key; pass them where nobody else can read them."""
    return [] if key is None else key.options_for(INFERENCE)


@contextlib.contextmanager
def own_regions() -> Iterator[str]:
    """The option that gives the Python backend's shared memory a prefix of its own: what the server, which must have
    ended, has left there is removed when the block is left."""
    prefix = f"triton_{uuid.uuid4().hex}_"
    try:
        yield f"{REGION_PREFIX_OPTION}{prefix}"
    finally:
        for path in SHARED_MEMORY.glob(f"{prefix}*"):
            path.unlink(missing_ok=True)
