from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import ProcessError
from deployment_toolkit.process import run
from deployment_toolkit.redaction import redacted, redacted_plain, shown_command, shown_url

BUG = """
import logging
from deployment_toolkit.options.params import run_entry_point
def main(argv):
    url = "https://me:hidden@host/a?key=hidden"
    logging.getLogger("a").warning("from %s", url)
    raise {error}(url + " is wrong")  # a line that newer Pythons show, without the URL
run_entry_point(main, [])
"""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:hidden@host:443/a/b", "https://***@host:443/a/b"),
        ("grpcs://hidden@[::1]:8001", "grpcs://***@[::1]:8001"),
        ("https://me:hid/den@host/a", "https://***@host/a"),
        ("https://me:hidd@en@host", "https://***@host"),
        ("https://me:hid den@host", "https://***@host"),
        ("https://host/a?key=hidden#part", "https://host/a?***"),
        ("https://host:80/a@v1/b.zip", "https://host:80/a@v1/b.zip"),
        ("https://host/a@v1/b.zip", "https://host/a@v1/b.zip"),
        ("me:hidden@host:8001", "***@host:8001"),
        ("image:1@sha256:abc", "image:1@sha256:abc"),
        ("localhost:8001", "localhost:8001"),
    ],
)
def test_shown_url_has_no_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown == redacted_plain({"a": [url]})["a"][0]


def test_secrets_are_taken_out_of_texts_and_commands() -> None:
    text = "2 of http://me:hidden@a:1, 'https://b/c?d=hidden' and (grpc://e:2) at me@example.com"
    assert redacted(text) == "2 of http://***@a:1, 'https://b/c?***' and (grpc://e:2) at me@example.com"
    argv = ["run", "--url=https://me:hid den@host", "--name", "a b", "--grpc-url", "me:hidden@host:1"]
    assert shown_command(argv) == "run '--url=https://***@host' --name 'a b' --grpc-url '***@host:1'"


@pytest.mark.parametrize("error", ["ValueError", "__import__('deployment_toolkit.errors').errors.DataError"])
def test_logs_errors_and_tracebacks_of_a_command_show_no_secrets(error: str, tmp_path: Path) -> None:
    with pytest.raises(ProcessError) as ended:
        run([sys.executable, "-c", BUG.format(error=error)], env={"PYTHONPATH": str(ROOT)}, log_path=tmp_path / "log")
    assert "hidden" not in ended.value.stderr
    assert ended.value.stderr.count("https://***@host/a?***") == 2
