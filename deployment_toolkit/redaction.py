"""Secrets of URLs, taken out of texts that others may read: user and password, and what follows the question mark, as a
token does."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, unquote

_HIDDEN = "***"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>`|]+")
_START = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]*\]|[^:@]*)(:[0-9]*)?")
# An address without a protocol that has a user and a password, and isn't an image with its digest.
_BARE = re.compile(r"[^\s/@:]+:[^@]*@(?!sha256:)[^\s@]+")


def shown_url(text: str) -> str:
    """One URL, whole or wrong, without its secrets; any other text as it is."""
    start = _START.match(text)
    if start is None:
        return f"{_HIDDEN}@{text.rpartition('@')[2]}" if _BARE.fullmatch(text) else text
    scheme, rest = text[: start.end()], text[start.end() :]
    end = re.search(r"[/?#]", rest)
    authority = rest[: end.start()] if end else rest
    if "@" in authority:
        rest = f"{_HIDDEN}@{rest[authority.rindex('@') + 1 :]}"
    elif "@" in rest and not _ADDRESS.fullmatch(authority):  # a password with a slash in it
        rest = f"{_HIDDEN}@{rest.rpartition('@')[2]}"
    rest, mark, _ = rest.partition("?")
    return f"{scheme}{rest}{mark}{_HIDDEN if mark else ''}"


def redacted(text: str) -> str:
    """A message or a log line, in which every URL is without its secrets."""
    return _URL.sub(lambda found: shown_url(found[0]), text) if "://" in text else text


def redacted_plain(value: Any) -> Any:
    """Plain YAML types in which no text, other than a key, has a URL's secrets."""
    if isinstance(value, Mapping):
        return {key: redacted_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_plain(item) for item in value]
    return shown_url(redacted(value)) if isinstance(value, str) else value


def shown_command(argv: Sequence[str]) -> str:
    """A command line as a text for the shell, without the secrets of the URLs among its arguments."""
    return shlex.join(_shown_argument(part) for part in argv)


def _shown_argument(part: str) -> str:
    option = re.match(r"--[\w-]+=", part)
    start = option.end() if option else 0
    return part[:start] + shown_url(part[start:])


def basic_authorization(parts: SplitResult) -> dict[str, str]:
    """Header of HTTP's basic authorization (RFC 7617) for a URL with user and password, none for one without."""
    if parts.username is None and parts.password is None:
        return {}
    known = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return {"authorization": f"Basic {base64.b64encode(known.encode()).decode()}"}
