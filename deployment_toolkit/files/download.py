"""Download of a file, complete or absent; an interrupted download continues where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import logging
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
from deployment_toolkit.progress import progress_bar

logger = logging.getLogger("download")

_CHUNK_BYTES = 2**20
_TIMEOUT_S = 60.0  # of one read or write of the connection
_ATTEMPTS = 5  # in a row without new bytes
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
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
                raise DataError(f"{url} can't be downloaded: {problem}") from error
        except _BROKEN as error:
            problem = str(getattr(error, "reason", None) or error or type(error).__name__)
        went_on = partial.size > before and partial.validator is not None
        failures = 1 if went_on else failures + 1
        if failures == _ATTEMPTS:
            kept = f" (what came so far is kept in {partial.path})" if partial.validator else ""
            raise DataError(f"{url} can't be downloaded: {problem}; try again later{kept}")
        logger.warning("%s: trying again", problem)
        time.sleep(pause_s)
    try:
        require_sha256(partial.path, sha256, url)
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
            if known["url"] == self.url and self.size:
                return str(known["validator"])
        return None

    def start(self, headers: Message) -> None:
        """Drops the received bytes and records the validator of the server's file."""
        self.forget()
        tag = headers.get("ETag")
        validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
        if validator:
            write_text(self._record, json.dumps({"url": self.url, "validator": validator}))

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)


def _fetch(url: str, partial: _Partial) -> bool:
    """Downloads over one connection; True if the file is complete."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
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
    opener = urllib.request.build_opener(_NoDowngrade)
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
            raise DataError(f"{req.full_url} leads to {newurl}, which is not https: download it by hand")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_safe(url: str, sha256: str | None) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and (sha256 or parts.hostname in _LOOPBACK)):
        return
    if parts.scheme == "http":
        raise DataError(f"{url} could be changed on the way: give an https URL, or the file's sha256")
    raise DataError(f"{url} can't be downloaded: give an https URL")
