"""Download of a file, complete or absent; an interrupted download continues where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import logging
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import require_free_space, write_text
from deployment_toolkit.machine import is_loopback
from deployment_toolkit.progress import progress_bar
from deployment_toolkit.redaction import basic_authorization, shown_url

logger = logging.getLogger("download")

_CHUNK_BYTES = 2**20
_TIMEOUT_S = 60.0  # of one read or write of the connection
_SALT_BYTES = 16
_ATTEMPTS = 5  # in a row without new bytes
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def download(url: str, path: Path, *, sha256: str | None = None, pause_s: float = 1.0) -> None:
    """Fetches ``url`` (https; http from this machine or with a checksum) into ``path``, with a progress bar.

    The bytes of an interrupted download (``path`` with the suffix ``.partial``) are kept. The next call continues after
    them with an HTTP range if the server says that its file is still the same. A broken connection is opened again
    after ``pause_s``, several times. Raises DataError if the server refuses, if the connection breaks too often, if the
    disk is too small, or if the SHA-256 differs; after a wrong SHA-256 the bytes are deleted.
    """
    _require_safe(url, sha256)
    partial = _Partial(path.with_name(f"{path.name}.partial"), url)
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = partial.size
        try:
            if _fetch(url, partial):
                break
            problem = f"the connection ended after {partial.size} bytes"
        except urllib.error.HTTPError as error:
            problem = f"the server answers {error.code} {error.reason}"
            if error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                raise DataError(f"{shown_url(url)} can't be downloaded: {problem}") from error
        except _BROKEN as error:
            problem = str(getattr(error, "reason", None) or error or type(error).__name__)
        went_on = partial.size > before and partial.validator is not None
        failures = 1 if went_on else failures + 1
        if failures == _ATTEMPTS:
            kept = f" (what came so far is kept in {partial.path})" if partial.validator else ""
            raise DataError(f"{shown_url(url)} can't be downloaded: {problem}; try again later{kept}")
        logger.warning("%s: trying again", problem)
        time.sleep(pause_s)
    try:
        require_sha256(partial.path, sha256, shown_url(url))
        partial.path.replace(path)
    finally:
        partial.forget()


def require_sha256(path: Path, sha256: str | None, source: str) -> None:
    """Raises DataError if a checksum is given and the file at ``path`` has another one."""
    if sha256 is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise DataError(f"{source} is another file than expected: its SHA-256 is {found}, not {sha256.lower()}")


@dataclass(frozen=True)
class _Partial:
    """Bytes of a file received so far, with a record next to them that identifies the server's file."""

    path: Path
    url: str

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def _record(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def validator(self) -> str | None:
        """Header value by which the server recognises the same file; None if there are no bytes to continue from."""
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
            known = json.loads(self._record.read_text())
            if known["url"] == self._known_url(known["url"]) and self.size:
                return str(known["validator"])
        return None

    def start(self, headers: Message) -> None:
        """Drops the received bytes and records the validator of the server's file."""
        self.forget()
        tag = headers.get("ETag")
        validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
        if validator:
            write_text(self._record, json.dumps({"url": self._known_url(), "validator": validator}))

    def _known_url(self, earlier: str = "") -> str:
        """The URL as the record has it, which must not tell a password or a token: shown, and behind a space a salt and
        a slow digest of the whole. The salt is the earlier record's, if there is one."""
        shown = shown_url(self.url)
        if shown == self.url:
            return shown
        salt = earlier.partition(" ")[2].partition(".")[0] or secrets.token_hex(_SALT_BYTES)
        digest = hashlib.scrypt(self.url.encode(), salt=salt.encode(), n=2**14, r=8, p=1)
        return f"{shown} {salt}.{digest.hex()}"

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)


def _fetch(url: str, partial: _Partial) -> bool:
    """Downloads over one connection; True if the file is complete."""
    parts = urlsplit(url)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    request = urllib.request.Request(address, headers={"Accept-Encoding": "identity"})
    for name, value in basic_authorization(parts).items():
        request.add_unredirected_header(name, value)  # not for another host
    validator = partial.validator
    if validator is not None:
        request.add_header("Range", f"bytes={partial.size}-")
        request.add_header("If-Range", validator)
    with _open(request, partial) as response:
        if response is None:  # all bytes have been received
            return True
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            start, total = _content_range(response.headers)
            if start != partial.size:
                partial.forget()
                raise ConnectionError(f"the server sends other bytes ({response.headers.get('Content-Range')})")
            logger.info("going on after %d of %s bytes", start, total)
        else:
            partial.start(response.headers)
            length = response.headers.get("Content-Length")
            total = int(length) if length is not None else None
        require_free_space(partial.path, (total or 0) - partial.size, "the download")
        _save(response, partial, total)
    return total is None or partial.size == total


@contextlib.contextmanager
def _open(request: urllib.request.Request, partial: _Partial) -> Iterator[Any]:
    opener = urllib.request.build_opener(_NoDowngrade, _ProxiesOfOthers)
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as response:
            yield response
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") == f"bytes */{partial.size}":
            yield None
        else:
            partial.forget()
            raise ConnectionError("the server has another file by now") from error


def _save(response: IO[bytes], partial: _Partial, total: int | None) -> None:
    with partial.path.open("ab") as file, progress_bar("download", total, "B") as bar:
        bar.update(partial.size)
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            bar.update(len(chunk))


def _content_range(headers: Message) -> tuple[int | None, int | None]:
    """Position of an answer's first byte, and length of the file if the header has it; None for what is missing."""
    span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    try:
        return int(span.partition("-")[0]), None if total == "*" else int(total)
    except ValueError:
        return None, None


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but not from https to a protocol without protection against changes."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            leads = f"{shown_url(req.full_url)} leads to {shown_url(newurl)}"
            raise DataError(f"{leads}, which is not https: download it by hand")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _ProxiesOfOthers(urllib.request.ProxyHandler):
    """The environment's proxies, but not for this machine itself."""

    def proxy_open(self, req: Any, proxy: Any, type: Any) -> Any:
        if is_loopback(urlsplit(req.full_url).hostname or ""):
            return None  # as for the hosts in no_proxy
        return super().proxy_open(req, proxy, type)  # type: ignore[misc]


def _require_safe(url: str, sha256: str | None) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and (sha256 or is_loopback(parts.hostname or ""))):
        return
    if parts.scheme == "http":
        raise DataError(f"{shown_url(url)} could be changed on the way: give an https URL, or the file's sha256")
    raise DataError(f"{shown_url(url)} can't be downloaded: give an https URL")
