"""What a client shows to a server elsewhere, and by what it recognises the server: headers and certificates."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deployment_toolkit.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x20-\x7e]+")
# The clients set these; another value would make a request that the server reads wrongly.
_NOT_OURS = (
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "inference-header-content-length",
    "te",
    "transfer-encoding",
)
_SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Access:
    """Headers of every request, and files in PEM for TLS. ``ca_certificate`` holds the authorities by which the server
    is recognised, None means the system's. ``client_certificate`` and its ``client_key`` are what a server asks for
    that lets known clients in only; a file with both may be either."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_certificate: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None

    @property
    def authorities(self) -> Path:
        """File of the authorities: the given one, else the one of SSL_CERT_FILE, the system's, or certifi's."""
        if self.ca_certificate is not None:
            return self.ca_certificate
        found = ssl.get_default_verify_paths().cafile
        if found:
            return Path(found)
        if _SYSTEM_BUNDLE.is_file():
            return _SYSTEM_BUNDLE
        import certifi  # an image that only serves does not have it

        return Path(certifi.where())

    @property
    def tls_files(self) -> dict[str, Path]:
        """The given files by the names of their fields."""
        names = ("ca_certificate", "client_certificate", "client_key")
        return {name: path for name in names if (path := getattr(self, name)) is not None}

    def context(self) -> ssl.SSLContext:
        """Checks of a server's certificate and host name, with the client's certificate. Raises UsageError, which names
        the file, if one can't be used."""
        context = _context(self.authorities, "--ca-certificate")
        if self.client_certificate is not None and self.client_key is not None:
            certificate, key = self.client_certificate, self.client_key
            for path, flag in ((certificate, "--client-certificate"), (key, "--client-key")):
                _require_readable(path, flag)
            try:
                context.load_cert_chain(certificate, key, password=_refuse_to_ask)
            except ssl.SSLError as error:
                raise UsageError(
                    f"--client-certificate {certificate} and --client-key {key} can't be used ({_reason(error)}): give "
                    "a certificate in PEM and its own key without a passphrase"
                ) from error
        return context


def header_lines(text: str, source: str) -> dict[str, str]:
    """Headers of a text with one in a line, as ``Authorization: Bearer abc``; names become lower case, as gRPC needs
    them. Raises UsageError, which names the source and the line's number but not its text, for anything else."""
    headers: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, colon, value = (part.strip() for part in line.partition(":"))
        place = f"line {number} of {source}"
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise UsageError(f"{place} is no header: write it as 'Authorization: Bearer abc', in ASCII")
        if name.lower() in _NOT_OURS or name.lower().endswith("-bin"):
            raise UsageError(f"{place} sets {name}, which only the client itself can: leave it out")
        headers = joined([headers, {name.lower(): value}], place)
    if not headers:
        raise UsageError(f"{source} holds no header: write one in a line, as 'Authorization: Bearer abc'")
    return headers


def joined(parts: Iterable[Mapping[str, str]], place: str) -> dict[str, str]:
    """All headers. Raises UsageError if one is given twice."""
    headers: dict[str, str] = {}
    for part in parts:
        for name in headers.keys() & part.keys():
            raise UsageError(f"{place}: header {name} is given more than once: leave one of them out")
        headers |= part
    return headers


def _context(authorities: Path, flag: str) -> ssl.SSLContext:
    _require_readable(authorities, flag)
    try:
        context = ssl.create_default_context(cafile=str(authorities))
    except ssl.SSLError as error:
        raise UsageError(
            f"{flag} {authorities} holds no certificates in PEM ({_reason(error)}): give the CA's"
        ) from error
    # From Python 3.13 on, a certificate of a private CA often fails here and passes in the clients over gRPC.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _require_readable(path: Path, flag: str) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise UsageError(f"{flag} {path} can't be read ({error.strerror}): give a file in PEM") from error


def _refuse_to_ask() -> bytes:
    """In place of OpenSSL's question for a passphrase: an empty one, which is wrong."""
    return b""


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
