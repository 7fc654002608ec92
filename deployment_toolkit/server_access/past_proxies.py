"""Environment of a client that must reach this host itself without the proxy that the environment names for others."""

from __future__ import annotations

from collections.abc import Mapping

from deployment_toolkit.machine import LOOPBACK

_OWN_NAMES = ("localhost", "::1", LOOPBACK)
_EXCEPTIONS = ("no_proxy", "NO_PROXY")
_GRPC_EXCEPTIONS = "no_grpc_proxy"  # gRPC reads this in place of the others, and knows no "*"
_ALL = "*"  # only without other names


def past_proxies(env: Mapping[str, str], host: str = LOOPBACK) -> dict[str, str]:
    """Copy of ``env`` in which curl, gRPC and Python's clients ask no proxy (``http_proxy``, ``grpc_proxy`` and so on)
    for ``host``, nor for this host by its usual names. Proxies for other hosts stay."""
    # The last: the curl in perf_analyzer 2.51 and 2.60 finds an address in the list only there.
    names = [*(name for name in _OWN_NAMES if name != host), host]
    given = ",".join(dict.fromkeys(filter(None, (env.get(name, "").strip() for name in _EXCEPTIONS))))
    exceptions = _ALL if given == _ALL else _joined(given, names)
    grpc = _joined(env.get(_GRPC_EXCEPTIONS) or given.replace(_ALL, ""), names)
    return {**env, **dict.fromkeys(_EXCEPTIONS, exceptions), _GRPC_EXCEPTIONS: grpc}


def _joined(given: str, names: list[str]) -> str:
    return ",".join(filter(None, [given, *names]))
