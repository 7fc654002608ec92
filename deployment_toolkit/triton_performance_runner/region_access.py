"""Why client or server may not open a shared memory region, and what to do."""

from __future__ import annotations

import re

from deployment_toolkit.triton_performance_runner.exclusive import SHARED_MEMORY

_SERVER_REFUSED = "unable to open shared memory region"  # Triton's words; from some version on with the reason
_CLIENT_REFUSED = "unable to get shared memory descriptor"  # perf_analyzer's


def region_remedy(reason: str, names: re.Pattern[str], client_uid: int) -> str | None:
    """What to do about a measurement of the user ``client_uid`` that failed for ``reason``, None if shared memory has
    no part in it. ``names`` are those of perf_analyzer's regions; to be called when it has ended and its own are
    gone."""
    server_refused = _SERVER_REFUSED in reason.lower()
    if not server_refused and _CLIENT_REFUSED not in reason.lower():
        return None
    for path in sorted(SHARED_MEMORY.iterdir()):
        if names.fullmatch(path.name) and path.stat().st_uid != client_uid:
            return (
                f"{path} of user {path.stat().st_uid} is in the way, left by a measurement that was killed: remove it"
            )
    if not server_refused:
        return f"let user {client_uid} write to {SHARED_MEMORY}, or use --evaluation-mode online"
    return (
        f"the server may not open the shared memory of user {client_uid}, or does not see this host's: as root give "
        "--client-user UID:GID, the user of the server's container; start that container with --ipc host; or use "
        "--evaluation-mode online"
    )
