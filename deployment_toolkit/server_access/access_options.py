"""Options of every command that takes the URL of a server: TLS, and headers such as a token."""

from __future__ import annotations

import functools
import logging
import stat
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.params import option
from deployment_toolkit.process import environment
from deployment_toolkit.server_access.access import Access, header_lines, joined
from deployment_toolkit.server_access.url import ServerUrl

logger = logging.getLogger("triton")


@dataclass(frozen=True)
class AccessOptions:
    """How to reach a server elsewhere. Raises UsageError for a client certificate without its key, or the reverse."""

    ca_certificate: Path | None = option(
        "file (PEM) of the authorities that vouch for the server of an https:// or grpcs:// URL; default: the system's",
        None,
    )
    client_certificate: Path | None = option("this client's certificate (PEM), for a server that asks for one", None)
    client_key: Path | None = option("key (PEM, without a passphrase) of the client certificate", None)
    header_file: list[Path] = option(
        "files with headers of every request, one in a line: 'Authorization: Bearer abc'", [], nargs="+", unique=True
    )
    header_env: list[str] = option(
        "environment variables with such lines", [], nargs="+", unique=True, metavar="VARIABLE"
    )

    def __post_init__(self) -> None:
        if (self.client_certificate is None) != (self.client_key is None):
            raise UsageError("--client-certificate and --client-key go together: give both or none")

    @property
    def given(self) -> list[str]:
        """Flags of the given options."""
        return [f"--{item.name.replace('_', '-')}" for item in fields(self) if getattr(self, item.name)]

    @property
    def arguments(self) -> list[str]:
        """These options on a command line, with absolute paths."""
        argv: list[str] = []
        for item in fields(self):
            value: Any = getattr(self, item.name)
            if value:
                parts = value if isinstance(value, list) else [value]
                shown = (str(part.absolute()) if isinstance(part, Path) else part for part in parts)
                argv += [f"--{item.name.replace('_', '-')}", *shown]
        return argv

    def access(self, env: Mapping[str, str] | None = None) -> Access:
        """Reads files and variables; ``env`` is by default this process's environment. Raises UsageError if one is
        missing or can't be used."""
        variables = environment(env, prepend={})
        parts = [_of_file(path) for path in self.header_file]
        for name in self.header_env:
            if name not in variables:
                raise UsageError(f"--header-env {name}: there is no such environment variable, export it")
            parts.append(header_lines(variables[name], f"environment variable {name}"))
        headers = joined(parts, "--header-file and --header-env")
        access = Access(headers, self.ca_certificate, self.client_certificate, self.client_key)
        if access.tls_files:
            access.context()  # a wrong file is told before anything is done
        return access

    def url(self, url: ServerUrl | str, env: Mapping[str, str] | None = None) -> ServerUrl:
        """The URL, or the text of one on a command line, with this access. Raises UsageError for a wrong URL, for files
        of TLS with a URL without it, and the errors of ``access``."""
        typed, url = isinstance(url, str), ServerUrl.of(url)
        if typed and url.access.headers:
            _warn(
                f"every user of this host can read the password of {url} on this command line: use --header-file or "
                "--header-env"
            )
        url = url.reached_by(self.access(env))
        if url.access.tls_files and not url.secure:
            flags = ", ".join(flag for flag in self.given if not flag.startswith("--header"))
            raise UsageError(
                f"{flags}: {url} has no TLS, so write it as {url.scheme}s://{url.address}, or leave them out"
            )
        if url.access.headers and not url.secure and not url.is_loopback:
            _warn(f"headers cross the network to {url} in clear text: use {url.scheme}s:// if the server can")
        return url


def _of_file(path: Path) -> dict[str, str]:
    try:
        text, mode = path.read_text(errors="replace"), path.stat().st_mode
    except OSError as error:
        raise UsageError(f"--header-file {path} can't be read ({error.strerror}): give a file of headers") from error
    if mode & stat.S_IROTH:
        _warn(f"every user of this host can read --header-file {path}: chmod o-r it")
    return header_lines(text, str(path))


@functools.cache
def _warn(message: str) -> None:
    """Logs a warning, once."""
    logger.warning("%s", message)
