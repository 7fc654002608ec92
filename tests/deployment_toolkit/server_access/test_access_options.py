"""Options for servers elsewhere: their values, and how a wrong one is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_performance_runner.client_access import header_options, server_options
from tests.tls_proxy import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ca")


def test_headers_of_files_and_variables_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "headers"
    path.write_text("Authorization: Bearer a:b c\n\nX-Tenant: 7\n")
    options = AccessOptions(header_file=[path], header_env=["MORE"])
    access = options.access({"MORE": "x-more:1"})
    assert access.headers == {"authorization": "Bearer a:b c", "x-tenant": "7", "x-more": "1"}
    assert "Bearer" not in repr(access)
    assert header_options(access.headers)[:2] == ["-H", "authorization:Bearer a:b c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hidden", "line 1 of .*headers is no header: write it as 'Authorization: Bearer abc'"),
        ("A: 1\nA b: hidden", "line 2 of .* is no header"),
        ("A: hidden\x01", "line 1 of .* is no header"),
        ("A: hidd\u00e9n", "is no header"),
        ("", "holds no header"),
        ("Content-Length: 7", "sets Content-Length, which only the client itself can"),
        ("A: hidden\na: hidden", "header a is given more than once"),
    ],
)
def test_wrong_headers_are_told_without_their_values(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "headers"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as refused:
        AccessOptions(header_file=[path]).access()
    assert "hidd" not in str(refused.value)


def test_wrong_options_are_told(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("client")
    _, other = authority.issue("other")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"client_key": key}, "--client-certificate and --client-key go together"),
        ({"header_env": ["NO_SUCH_VARIABLE"]}, "--header-env NO_SUCH_VARIABLE: there is no such environment variable"),
        ({"header_file": [tmp_path / "none"]}, "--header-file .*none can't be read"),
        ({"ca_certificate": tmp_path / "none"}, "--ca-certificate .*none can't be read .No such file"),
        ({"ca_certificate": nonsense}, "--ca-certificate .*nonsense.pem holds no certificates in PEM"),
        ({"client_certificate": certificate, "client_key": other}, "--client-key .*other.key can't be used .*mismatch"),
    ]
    for options, message in wrong:
        with pytest.raises(UsageError, match=message):
            AccessOptions(**options).url("https://host")
    with pytest.raises(
        UsageError, match="^--ca-certificate: http://host:8000 has no TLS, so write it as https://host:8000"
    ):
        AccessOptions(ca_certificate=authority.certificate).url("http://host")
    with pytest.raises(UsageError, match="header authorization is given more than once"):
        AccessOptions(header_env=["A"]).url("https://me:hidden@host", {"A": "Authorization: other"})


def test_key_with_a_passphrase_is_refused_without_a_question(authority: Authority) -> None:
    certificate, key = authority.issue("locked", passphrase="hidden")
    with pytest.raises(UsageError, match="its own key without a passphrase"):
        AccessOptions(client_certificate=certificate, client_key=key).access()


def test_headers_in_clear_text_and_open_files_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "headers"
    path.write_text("A: hidden")
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        AccessOptions(header_file=[path]).url("http://far:1")
        AccessOptions().url("grpc://me:hidden@far")
        AccessOptions().url(ServerUrl.parse("http://me:hidden@localhost:1"))
    assert caplog.messages == [
        f"every user of this host can read --header-file {path}: chmod o-r it",
        "headers cross the network to http://far:1 in clear text: use https:// if the server can",
        "every user of this host can read the password of grpc://far:8001 on this command line: use --header-file or "
        "--header-env",
        "headers cross the network to grpc://far:8001 in clear text: use grpcs:// if the server can",
    ]


def test_options_survive_a_command_line(authority: Authority) -> None:
    certificate, key = authority.issue("client")
    argv = ["--ca-certificate", str(authority.certificate), "--header-env", "A", "B", "--header-file", "headers"]
    argv += ["--client-certificate", str(certificate), "--client-key", str(key)]
    parser = make_parser("")
    add_dataclass(parser, AccessOptions)
    options = from_args(AccessOptions, parser.parse_args(argv))
    again = from_args(AccessOptions, parser.parse_args(options.arguments))
    assert again.header_file == [Path("headers").absolute()]
    assert (again.header_env, again.client_key, again.ca_certificate) == (["A", "B"], key, authority.certificate)
    url = AccessOptions(client_certificate=certificate, client_key=key).url("grpcs://host:1")
    assert server_options(url)[-4:] == [
        *("--ssl-grpc-certificate-chain-file", str(certificate)),
        *("--ssl-grpc-private-key-file", str(key)),
    ]
