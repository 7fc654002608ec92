from __future__ import annotations

import pytest

from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser
from deployment_toolkit.server_access.url import Scheme, ServerUrl
from run_inference_on_triton import TritonOptions


def test_default_server_url_is_valid() -> None:
    parser = make_parser("")
    add_dataclass(parser, TritonOptions)
    options = from_args(TritonOptions, parser.parse_args(["--model-name", "m", "--dataloader", "d.py"]))
    assert ServerUrl.parse(options.server_url) == ServerUrl(Scheme.GRPC, "localhost", 8001)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grpc://host:9001", ServerUrl(Scheme.GRPC, "host", 9001)),
        ("http://127.0.0.1:8000/", ServerUrl(Scheme.HTTP, "127.0.0.1", 8000)),
        ("http://host", ServerUrl(Scheme.HTTP, "host", 8000)),
        ("[::1]:8001", ServerUrl(Scheme.GRPC, "::1", 8001)),
        ("grpcs://host", ServerUrl(Scheme.GRPC, "host", 443, secure=True)),
        ("https://host:8443/", ServerUrl(Scheme.HTTP, "host", 8443, secure=True)),
    ],
)
def test_server_url_has_both_protocols(text: str, expected: ServerUrl) -> None:
    assert ServerUrl.parse(text) == expected
    assert ServerUrl.parse(str(expected)) == expected


@pytest.mark.parametrize("text", ["https://me:hid%20den@host:1", "grpc://me:hid den@host:1", "me:hid den@host:1"])
def test_user_and_password_become_a_header_that_no_text_shows(text: str) -> None:
    url = ServerUrl.parse(text)
    assert url.access.headers == {"authorization": "Basic bWU6aGlkIGRlbg=="}
    assert str(url).endswith("://host:1") and "bWU6" not in repr(url)


@pytest.mark.parametrize(
    "text",
    ["me:hid/den@host", "https://me:hid/den@host", "ftp://me:hidden@host", "http://me:hidden@host:port", "a@b@:1"],
)
def test_message_about_a_wrong_url_has_no_secrets(text: str) -> None:
    with pytest.raises(UsageError, match=r"server URL .*\*\*\*@") as refused:
        ServerUrl.parse(text)
    assert "den" not in str(refused.value) and "me:" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["ftp://host:1", "grpc://host:port", "http://[half", "http://:8000", "http://host:8000/v2", ""]
)
def test_invalid_server_url_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="server URL"):
        ServerUrl.parse(text)
