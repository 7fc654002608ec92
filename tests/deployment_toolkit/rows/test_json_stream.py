from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployment_toolkit.rows import json_stream
from deployment_toolkit.rows.json_stream import JsonStream

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    LEAVES, lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(), parts, max_size=4), max_leaves=12
)
in_small_pieces = pytest.mark.usefixtures("small_pieces")


@pytest.fixture(scope="module")
def small_pieces() -> Any:
    """Makes every value cross the border of two pieces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_PIECE", 3)
        yield


def read(text: str) -> dict[str, list[Any]]:
    """The arrays of an object, item by item."""
    stream = JsonStream(io.StringIO(text))
    found = {name: [stream.value() for _ in stream.items()] for name in stream.members()}
    stream.end()
    return found


@in_small_pieces
@settings(derandomize=True)
@given(st.dictionaries(st.text(), st.lists(VALUES, max_size=4), max_size=3), st.sampled_from([None, 1]))
def test_text_is_read_as_json_does(given: dict[str, list[Any]], indent: int | None) -> None:
    assert repr(read(json.dumps(given, indent=indent) + " \n")) == repr(given)  # of NaN, too


@in_small_pieces
def test_text_that_ends_too_early_is_refused() -> None:
    text = json.dumps({'a "quoted\\" name': [1.5, "x\\", {"b": [True, None]}, -2e-7], "c": []})
    assert list(read(text)) == ['a "quoted\\" name', "c"]
    for end in range(len(text)):
        with pytest.raises(ValueError, match=r"ends too early|Expecting|Unterminated"):
            read(text[:end])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "'\\[' stands where '{' is wanted"),
        ('{"a" []}', "'\\[' stands where ':' is wanted"),
        ('{"a": [1 2]}', "Extra data|'2' stands where ',' is wanted"),
        ('{"a": [1,]}', "Expecting value"),
        ("{1: []}", "1 stands where a name is wanted"),
        ('{"a": [one]}', "Expecting value"),
        ('{"a": []} {', "there is more text behind its end"),
    ],
)
def test_text_that_is_no_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(text)
