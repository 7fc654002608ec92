"""Clients of a server by its URL: with TLS, and with the headers of its access in every request."""

from __future__ import annotations

from typing import Any

import grpc  # type: ignore[import-untyped]
import tritonclient.grpc
import tritonclient.http

from deployment_toolkit.server_access.url import ServerUrl


def grpc_client(url: ServerUrl) -> tritonclient.grpc.InferenceServerClient:
    """Client over gRPC. Raises UsageError if a file of its access can't be used."""
    client = tritonclient.grpc.InferenceServerClient(
        url.address, creds=_credentials(url) if url.secure else None, channel_args=_channel_options(url)
    )
    return _with_headers(client, url)


def grpc_channel(url: ServerUrl) -> grpc.Channel:
    """Channel for messages that the caller serializes; headers are the caller's. Raises UsageError if a file of its
    access can't be used."""
    if url.secure:
        return grpc.secure_channel(url.address, _credentials(url), _channel_options(url))
    return grpc.insecure_channel(url.address, _channel_options(url))


def http_client(url: ServerUrl, **options: Any) -> tritonclient.http.InferenceServerClient:
    """Client over HTTP with these options of its class. Raises UsageError if a file of its access can't be used."""
    if url.secure:
        options |= {"ssl": True, "ssl_options": _ssl_options(url)}
    return _with_headers(tritonclient.http.InferenceServerClient(url.address, **options), url)


def _channel_options(url: ServerUrl) -> list[tuple[str, int]]:
    """Options of a gRPC channel: messages of any size, and no proxy for this host itself."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    if url.is_loopback:
        options.append(("grpc.enable_http_proxy", 0))
    return options


def _credentials(url: ServerUrl) -> Any:
    url.access.context()  # gRPC tells of a wrong file only by a failed connection
    key, certificate = url.access.client_key, url.access.client_certificate
    return grpc.ssl_channel_credentials(
        root_certificates=url.access.authorities.read_bytes(),
        private_key=None if key is None else key.read_bytes(),
        certificate_chain=None if certificate is None else certificate.read_bytes(),
    )


def _ssl_options(url: ServerUrl) -> dict[str, Any]:
    options: dict[str, Any] = {"ca_certs": str(url.access.authorities)}
    options["verify_flags"] = url.access.context().verify_flags
    if url.access.client_certificate is not None:
        options |= {"certfile": str(url.access.client_certificate), "keyfile": str(url.access.client_key)}
    return options


def _with_headers(client: Any, url: ServerUrl) -> Any:
    headers = dict(url.access.headers)
    if headers:
        client.register_plugin(lambda request: request.headers.update(headers))
    return client
