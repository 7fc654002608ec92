"""Options of perf_analyzer that name a server, its TLS and the headers of requests. Source: perf_analyzer --help."""

from __future__ import annotations

from collections.abc import Mapping

from deployment_toolkit.server_access.url import Scheme, ServerUrl


def server_options(url: ServerUrl) -> list[str]:
    """Address, protocol and TLS files, which may be on a command line that others can read."""
    if url.scheme is Scheme.GRPC:
        return ["-u", url.address, "-i", "grpc", *(_grpc_tls(url) if url.secure else [])]
    if not url.secure:
        return ["-u", url.address, "-i", "http"]
    return ["-u", f"https://{url.address}", "-i", "http", *_https(url)]


def header_options(headers: Mapping[str, str]) -> list[str]:
    """Headers of every request; pass them where nobody else can read them."""
    return [part for name, value in headers.items() for part in ("-H", f"{name}:{value}")]


def _grpc_tls(url: ServerUrl) -> list[str]:
    access = url.access
    argv = ["--ssl-grpc-use-ssl", "true", "--ssl-grpc-root-certifications-file", str(access.authorities)]
    if access.client_certificate is not None:
        argv += ["--ssl-grpc-certificate-chain-file", str(access.client_certificate)]
        argv += ["--ssl-grpc-private-key-file", str(access.client_key)]
    return argv


def _https(url: ServerUrl) -> list[str]:
    access = url.access
    argv = ["--ssl-https-ca-certificates-file", str(access.authorities)]
    if access.client_certificate is not None:
        argv += ["--ssl-https-client-certificate-file", str(access.client_certificate)]
        argv += ["--ssl-https-private-key-file", str(access.client_key)]
    return argv
