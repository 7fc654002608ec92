"""Raw tables whose text is not quite Kaggle's."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError
from tests.widedeep.preprocessing.conftest import Join
from widedeep.preprocessing.raw_csv import CLICKS, EVENTS, META, PROMOTED, stream

Change = Callable[[str], str]


def _quoted(text: str) -> str:
    return re.sub(r"[^,\n]+", r'"\g<0>"', text)


READ: dict[str, Change] = {
    "byte order mark": lambda text: "\ufeff" + text,
    "byte order mark and quotes": lambda text: "\ufeff" + _quoted(text),
    "blanks": lambda text: text.replace(",", ", "),
    "blanks on both sides": lambda text: text.replace(",", " ,\t").replace("\n", " \n"),
    "blanks and quotes": lambda text: _quoted(text).replace(",", ", "),
    "blanks in the rows alone": lambda text: (
        text.partition("\n")[0] + "\n" + text.partition("\n")[2].replace(",", ", ")
    ),
    "quotes": _quoted,
    "trailing commas": lambda text: text.replace("\n", ",\n"),
    "lines of Windows": lambda text: text.replace("\n", "\r\n"),
    "byte order mark, blanks and lines of Windows": lambda text: (
        "\ufeff" + text.replace(",", ", ").replace("\n", "\r\n")
    ),
    "lines of old Macs": lambda text: text.replace("\n", "\r"),
    "large letters": lambda text: text.partition("\n")[0].title() + "\n" + text.partition("\n")[2],
    "empty lines in front": lambda text: "\n\n" + text,
    "another column": lambda text: re.sub("(?m)^", "x,", text.rstrip("\n")) + "\n",
    "no end of the last line": lambda text: text.rstrip("\n"),
}


@pytest.mark.parametrize("name", [CLICKS, EVENTS, META])
@pytest.mark.parametrize("change", READ.values(), ids=READ)
def test_other_text_gives_the_same_rows(change: Change, name: str, raw: Path, few_raw: Path, join: Join) -> None:
    (raw / name).write_text(change((few_raw / name).read_text()), newline="")
    assert join(raw) == join(few_raw)


HEADER = "display_id,ad_id,clicked"
REFUSED: dict[str, tuple[str, str]] = {
    "no header": ("1,2,0\n", "lacks the column display_id, ad_id, clicked; it has 1, 2, 0: its first line must name"),
    "semicolons": ("display_id;ad_id;clicked\n1;2;0\n", "separate the columns with commas, not semicolons"),
    "invisible": (
        "display\u200b_id,ad_id,clicked\n",
        r"lacks the column display_id; it has 'display\\u200b_id', ad_id",
    ),
    "twice": (f"{HEADER},AD_ID\n1,2,0,3\n", "has the column ad_id twice: remove the one that isn't meant"),
    "nothing": ("\n \n", "is empty$"),
    "trailing commas in the rows alone": (f"{HEADER}\n1,2,0,\n", "line 2 has 4 fields, the header 3"),
    "a cut row": (f"{HEADER}\n1,2,0\n1,3\n", "line 3 has 2 fields, the header 3"),
    "a word": (f"{HEADER}\n1,2,0\n1,x,0\n", "column ad_id holds 'x' in line 3: it is no int64"),
    "a word among blanks": ("display_id, ad_id, clicked\n1, 2, 0\n1, x, 0\n", "column ad_id holds 'x' in line 3"),
    "no value": (f"{HEADER}\n1,2,0\n1,,0\n", "column ad_id is empty in line 3: every row needs a value there"),
    "neither 0 nor 1": (f"{HEADER}\n1,2,0\n1,3,2\n", "column clicked holds 2 in line 3: it must be 0 or 1"),
    "a negative id": (
        f"{HEADER}\n9223372036854775807,2,0\n-1,2,0\n",
        "column display_id holds -1 in line 3: outside 0 .. 9223372036854775807$",
    ),
    "an id beyond 64 bits": (
        f"{HEADER}\n9223372036854775808,2,0\n",
        "column display_id holds '9223372036854775808' in line 2: it is no int64",
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_text_that_cannot_be_read_is_refused_with_its_visible_cause(text: str, message: str, raw: Path) -> None:
    (raw / CLICKS).write_text(text)
    with pytest.raises(DataError, match=message) as raised:
        list(stream(raw, CLICKS))
    assert str(raised.value).startswith(f"{raw / CLICKS}")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("value", ["603.5", "9007199254740993", "inf"])
@pytest.mark.parametrize("column", [1, 2])
def test_id_that_is_no_exact_float_is_refused(value: str, column: int, raw: Path) -> None:
    header, first, *_ = (raw / META).read_text().splitlines()
    fields = first.split(",")
    fields[column] = value
    (raw / META).write_text("\n".join([header, first, ",".join(fields)]))
    name = header.split(",")[column]
    with pytest.raises(DataError, match=f"column {name} holds .* in line 3: it must be a whole number below 9007"):
        list(stream(raw, META))


def test_text_in_utf_16_is_refused(raw: Path) -> None:
    (raw / PROMOTED).write_text((raw / PROMOTED).read_text(), encoding="utf-16")
    with pytest.raises(DataError, match="is text in UTF-16, or no text: save it as CSV in UTF-8"):
        list(stream(raw, PROMOTED))
