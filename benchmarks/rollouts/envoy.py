"""Envoy as a gateway: a real Envoy whose endpoints and routes come from files, as a gateway's controller changes them
over xDS.

Formats: the ``envoy.config`` messages v3 in JSON. Envoy reads a file again when another is renamed to its name.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from benchmarks.rollouts.asking import get
from deployment_toolkit.errors import ServerError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.process import Child, child, how_it_ended, last_lines

_TYPES = "type.googleapis.com/envoy"
_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_START_S = 30.0
_APPLY_S = 30.0
_POLL_S = 0.02
REQUESTS_PER_CONNECTION = 100
_NAME = "inference"  # of the listener, its routes and its host
PROTOCOLS = ("http", "grpc")


@dataclass(frozen=True)
class RouteRule:
    """Requests of one protocol with one of these paths, and their method if there is one, are shared among services by
    weight. ``timeout`` is a text with its unit, as ``60s``; None is Envoy's 15 s."""

    protocol: str
    matches: tuple[tuple[str, str | None], ...]
    weights: Mapping[str, int]
    timeout: str | None = None


class Envoy:
    """A running Envoy with one listener for both protocols. It has a cluster for each service and protocol, without
    health checks, retries or outlier detection: a request that one server loses is lost. Its connections to servers are
    replaced after some requests: a gateway whose load grows, or that is started anew, opens connections at any time."""

    def __init__(self, process: Child, folder: Path, admin: str, services: Sequence[str]) -> None:
        self._process, self._folder, self._admin, self._services = process, folder, admin, services
        self._version = 1
        self.address = _listener_address(self._json("/listeners?format=json"))

    @property
    def http_url(self) -> str:
        return f"http://{self.address}"

    @property
    def grpc_url(self) -> str:
        return f"grpc://{self.address}"

    def set_endpoints(self, service: str, ports: Sequence[Mapping[str, int]]) -> None:
        """Makes servers on loopback, by their ports for ``http`` and ``grpc``, the endpoints of a service. Returns when
        Envoy has them."""
        wanted = {}
        for protocol in PROTOCOLS:
            cluster, found = _cluster(service, protocol), [one[protocol] for one in ports]
            wanted[cluster] = set(found)
            write_text(_endpoints_path(self._folder, cluster), _endpoints(cluster, found))
        self._wait(lambda: wanted.items() <= self._endpoints().items(), f"the endpoints {wanted}")

    def set_routes(self, rules: Sequence[RouteRule]) -> None:
        """Replaces the routes; a request that matches none is answered 404. Returns when Envoy has them."""
        self._version += 1
        version = str(self._version)
        write_text(self._folder / "routes.json", _routes(rules, version))
        self._wait(lambda: self._route_version() == version, f"the routes {rules}")

    def requests(self) -> dict[str, int]:
        """Requests that Envoy has passed on so far, by service."""
        return self._counted("upstream_rq_total")

    def retries(self) -> int:
        """Requests that Envoy has sent a second time."""
        return sum(self._counted("upstream_rq_retry").values())

    def _counted(self, name: str) -> dict[str, int]:
        """A counter of the clusters, by service. Raises KeyError if Envoy has none of this name."""
        stats = self._json(f"/stats?format=json&filter={name}$")["stats"]
        values = {one["name"]: one["value"] for one in stats if "name" in one}
        return {
            service: sum(values[f"cluster.{_cluster(service, protocol)}.{name}"] for protocol in PROTOCOLS)
            for service in self._services
        }

    def _endpoints(self) -> dict[str, set[int]]:
        clusters = self._json("/clusters?format=json")["cluster_statuses"]
        return {
            one["name"]: {host["address"]["socket_address"]["port_value"] for host in one.get("host_statuses", ())}
            for one in clusters
        }

    def _route_version(self) -> str | None:
        configs = self._json("/config_dump?resource=dynamic_route_configs").get("configs", [])
        return next((one.get("version_info") for one in configs), None)

    def _wait(self, is_applied: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _APPLY_S
        while not is_applied():
            if time.monotonic() > deadline or self._process.poll() is not None:
                said = last_lines(self._process.output()[0])
                raise ServerError(f"Envoy has not taken {what} after {_APPLY_S:g} s: {said}")
            time.sleep(_POLL_S)

    def _json(self, path: str) -> Any:
        return json.loads(get(self._admin, path, _APPLY_S)[1])


@contextlib.contextmanager
def running_envoy(
    program: Path, services: Sequence[str], folder: Path, requests_per_connection: int = REQUESTS_PER_CONNECTION
) -> Iterator[Envoy]:
    """Yields an Envoy on a free port of loopback; it has ended when the block is left. ``folder`` takes its files and
    its log. It knows no route yet, and no endpoint of any service, and replaces a connection to a server after
    ``requests_per_connection`` requests.

    Raises ServerError if Envoy ends or does not listen within half a minute."""
    folder.mkdir(parents=True)
    for service in services:
        for protocol in PROTOCOLS:
            cluster = _cluster(service, protocol)
            write_text(_endpoints_path(folder, cluster), _endpoints(cluster, []))
    write_text(folder / "routes.json", _routes([], "1"))
    bootstrap, log, admin = folder / "envoy.json", folder / "envoy.log", folder / "admin.txt"
    write_text(bootstrap, json.dumps(_bootstrap(services, folder, requests_per_connection)))
    command: list[str | Path] = [
        program,
        "--config-path",
        bootstrap,
        "--admin-address-path",
        admin,
        "--log-level",
        "warning",
    ]
    # No restart epoch's shared memory, so that several may run.
    command += ["--disable-hot-restart", "--concurrency", "2"]
    with child(command, stdout=log) as process:
        deadline = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(OSError, HTTPException, LookupError, ValueError):
                yielded = Envoy(process, folder, admin.read_text().strip(), services)
                break
            if process.wait(_POLL_S) is not None or time.monotonic() > deadline:
                code = process.poll()
                ended = "does not listen" if code is None else how_it_ended(code)
                raise ServerError(f"Envoy {ended} while it started: {last_lines(process.output()[0])}; see {log}")
        yield yielded


def _cluster(service: str, protocol: str) -> str:
    return f"{service}_{protocol}"


def _endpoints_path(folder: Path, cluster: str) -> Path:
    return folder / f"endpoints_{cluster}.json"


def _listener_address(listeners: Any) -> str:
    (address,) = [one["local_address"]["socket_address"] for one in listeners["listener_statuses"]]
    return f"{address['address']}:{address['port_value']}"


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _endpoints(cluster: str, ports: Sequence[int]) -> str:
    found = {
        "@type": f"{_TYPES}.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}} for port in ports]}],
    }
    return json.dumps({"resources": [found]})


def _routes(rules: Sequence[RouteRule], version: str) -> str:
    routes = [
        {"match": _match(path, method), "route": _action(rule)} for rule in rules for path, method in rule.matches
    ]
    found = {
        "@type": f"{_TYPES}.config.route.v3.RouteConfiguration",
        "name": _NAME,
        # Envoy doesn't tell the version of routes that are as they were.
        "virtual_hosts": [{"name": f"{_NAME} {version}", "domains": ["*"], "routes": routes}],
    }
    return json.dumps({"version_info": version, "resources": [found]})


def _match(path: str, method: str | None) -> dict[str, Any]:
    headers = [] if method is None else [{"name": ":method", "string_match": {"exact": method}}]
    return {"path": path, "headers": headers}


def _action(rule: RouteRule) -> dict[str, Any]:
    shares = [{"name": _cluster(service, rule.protocol), "weight": weight} for service, weight in rule.weights.items()]
    timeout = {} if rule.timeout is None else {"timeout": rule.timeout}
    return {"weighted_clusters": {"clusters": shares}, **timeout}


def _from_file(path: Path) -> dict[str, Any]:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _bootstrap(services: Sequence[str], folder: Path, requests_per_connection: int) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": _NAME,
        "rds": {"route_config_name": _NAME, "config_source": _from_file(folder / "routes.json")},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{_TYPES}.extensions.filters.http.router.v3.Router"}}
        ],
    }
    filters = [{"name": "http", "typed_config": manager}]
    listener = {"name": _NAME, "address": _address(0), "filter_chains": [{"filters": filters}]}
    clusters = [
        _cluster_config(service, protocol, folder, requests_per_connection)
        for service in services
        for protocol in PROTOCOLS
    ]
    return {
        "node": {"id": _NAME, "cluster": _NAME},
        "admin": {"address": _address(0)},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }


def _cluster_config(service: str, protocol: str, folder: Path, requests_per_connection: int) -> dict[str, Any]:
    name = _cluster(service, protocol)
    options = {
        "@type": f"type.googleapis.com/{_PROTOCOL_OPTIONS}",
        "common_http_protocol_options": {"max_requests_per_connection": requests_per_connection},
        "explicit_http_config": {f"http{2 if protocol == 'grpc' else ''}_protocol_options": {}},
    }
    return {
        "name": name,
        "type": "EDS",
        "lb_policy": "LEAST_REQUEST",
        "eds_cluster_config": {"eds_config": _from_file(_endpoints_path(folder, name))},
        "typed_extension_protocol_options": {_PROTOCOL_OPTIONS: options},
    }
