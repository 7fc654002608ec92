"""Options of the proxy, and the environment in which its processes find their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from deployment_toolkit.errors import UsageError, require_options_at_least
from deployment_toolkit.options.params import option
from deployment_toolkit.server_access.key import ServerKey
from deployment_toolkit.server_access.url import Scheme

KEY_NAME = "wide-deep-proxy"  # the header by which the server knows requests of its proxy
KEY_VARIABLE = "WIDE_DEEP_KEY"

_MIB = 2**20
_MOST_MIB = 2047  # gRPC's messages are smaller than 2 GiB


@dataclass(frozen=True)
class ProxyOptions:
    """Options of a proxy before the server; all but ``proxy`` are bounds for its clients."""

    proxy: bool = option(
        "put a proxy (HAProxy) before the server, at the given ports; it refuses what could harm the server", False
    )
    proxy_binary_only: bool = option("the proxy refuses JSON with a tensor's values: binary tensors only", False)
    proxy_body_mib: int = option("largest body of a request or gRPC message that the proxy passes, MiB", 64)
    proxy_json_mib: int = option("most JSON in a request that the proxy passes, MiB", 8)
    proxy_connections: int = option("connections of clients that the proxy serves at once; others wait", 1024)
    proxy_in_flight: int = option("HTTP requests that the proxy has at the server at once; others wait", 128)
    proxy_timeout_s: int = option(
        "longest time that a request waits for its turn, and then for its answer, at the proxy, seconds", 60
    )
    proxy_grace_s: int = option(
        "how long a proxy that is told to end says that it is not ready, and takes requests, seconds: until all load "
        "balancers have seen it",
        0,
    )

    def __post_init__(self) -> None:
        numbers = [item.name for item in fields(self) if item.type == "int" and item.name != "proxy_grace_s"]
        require_options_at_least(self, ["proxy_grace_s"], 0)
        require_options_at_least(self, numbers, 1)
        for name in ("proxy_body_mib", "proxy_json_mib"):
            if getattr(self, name) > _MOST_MIB:
                raise UsageError(f"--{name.replace('_', '-')} must be at most {_MOST_MIB}, not {getattr(self, name)}")
        if not self.proxy:
            changed = [item.name for item in fields(self) if getattr(self, item.name) != item.default]
            if changed:
                raise UsageError(
                    f"--{changed[0].replace('_', '-')} is for the proxy: give --proxy too, or leave it out"
                )

    @property
    def json_bytes(self) -> int:
        """Most bytes of JSON in a request."""
        return self.proxy_json_mib * _MIB

    def environment(
        self, ports: Mapping[str, int], server_ports: Mapping[str, int], json_port: int, key: ServerKey
    ) -> dict[str, str]:
        """Variables of haproxy.cfg. ``ports`` and ``server_ports`` are the proxy's and the server's for ``http``,
        ``grpc`` and ``metrics``; ``json_port`` is that of the check of JSON, 0 without one."""
        ((http_name, value),) = key.headers(Scheme.HTTP).items()
        (grpc_name,) = key.headers(Scheme.GRPC)
        numbers = {
            "CONNECTIONS": self.proxy_connections,
            "IN_FLIGHT": self.proxy_in_flight,
            "GRACE_S": self.proxy_grace_s,
            "TIMEOUT_S": self.proxy_timeout_s,
            "BODY_BYTES": self.proxy_body_mib * _MIB,
            "JSON_BYTES": self.json_bytes,
            "JSON_PORT": json_port,
            **{f"{name.upper()}_PORT": port for name, port in ports.items()},
            **{f"SERVER_{name.upper()}_PORT": port for name, port in server_ports.items()},
        }
        names = {"HTTP_KEY_NAME": http_name, "GRPC_KEY_NAME": grpc_name}
        return {
            **{f"WIDE_DEEP_{name}": str(number) for name, number in {**numbers, **names}.items()},
            KEY_VARIABLE: value,
        }
