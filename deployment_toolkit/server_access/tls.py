"""Why a connection with TLS fails: the clients' messages differ and name no remedy, so the handshake is repeated."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass

from deployment_toolkit.server_access.url import ServerUrl

_TIMEOUT_S = 2.0  # of each step
# Codes of OpenSSL's X509_verify_cert_error_string(3).
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)
_OTHER_HOST = (62, 64)
# What a server says by an alert if it misses or refuses the client's certificate.
_ABOUT_THE_CLIENT = ("certificate", "unknown ca", "handshake failure")


@dataclass(frozen=True)
class TlsProblem:
    """What is wrong with TLS at an address, and what to do. ``lasting``: no waiting mends it."""

    text: str
    lasting: bool = True


def tls_problem(url: ServerUrl) -> TlsProblem | None:
    """The problem at this address; None if it is not TLS that fails. Raises UsageError if a file of the access can't be
    used."""
    if not url.secure:
        return _wants_tls(url)
    context = url.access.context()
    try:
        plain = socket.create_connection((url.host, url.port), _TIMEOUT_S)
    except OSError:
        return None
    try:
        with plain, context.wrap_socket(plain, server_hostname=url.host) as connection:
            _provoke_refusal(connection)
    except ssl.SSLCertVerificationError as error:
        return TlsProblem(_about_certificate(error, url))
    except TimeoutError:
        return None
    except OSError as error:  # an SSLError too
        return _about_handshake(error, url)
    return None


def _provoke_refusal(connection: ssl.SSLSocket) -> None:
    """In TLS 1.3 a server that refuses the client's certificate says so after the handshake. Raises SSLError then."""
    connection.settimeout(_TIMEOUT_S)
    try:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        connection.recv(1)
    except OSError as error:
        if "ALERT" in (getattr(error, "reason", None) or ""):
            raise


def _about_certificate(error: ssl.SSLCertVerificationError, url: ServerUrl) -> str:
    code, said = error.verify_code, error.verify_message.rstrip(".")
    if code in (_EXPIRED, _NOT_YET_VALID):
        return f"its certificate is not valid today ({said}): its owner has to renew it, or this host's clock is wrong"
    if code in _OTHER_HOST:
        return f"its certificate is for another host ({said}): give the host's name that the certificate has"
    if code in _UNKNOWN_AUTHORITY:
        trusted = url.access.authorities
        return f"nobody in {trusted} vouches for its certificate ({said}): give its CA with --ca-certificate"
    return f"its certificate is refused ({said}): give its CA with --ca-certificate, or ask its owner for another"


def _about_handshake(error: OSError, url: ServerUrl) -> TlsProblem:
    said = (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()
    if "alert" not in said:
        port = f"it seems to speak no TLS ({said}): write {url.scheme}://{url.address}, or give the port that does"
        return TlsProblem(port, lasting="wrong version" in said or "record layer" in said)
    if not any(word in said for word in _ABOUT_THE_CLIENT):
        return TlsProblem(f"it refuses the handshake ({said}): are host and port right?")
    own = url.access.client_certificate
    if own is None:
        return TlsProblem(f"it asks for this client's certificate ({said}): give --client-certificate and --client-key")
    return TlsProblem(f"it refuses this client's certificate {own} ({said}): ask its owner for a valid one")


def _wants_tls(url: ServerUrl) -> TlsProblem | None:
    """The remedy if there is a server with TLS at an address without it. Nothing is trusted or sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection((url.host, url.port), _TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=url.host),
    ):
        return TlsProblem(f"it wants TLS: write {url.scheme}s://{url.address}")
    return None
