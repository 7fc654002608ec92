"""Times in other forms than Kaggle's: the same instants, or one line that says where and what to write."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from deployment_toolkit.errors import DataError
from tests.widedeep.preprocessing.conftest import Join
from widedeep.preprocessing.raw_csv import EVENTS, META
from widedeep.preprocessing.times import EPOCH_MS, publish_times

Form = Callable[[pd.Timestamp, int], str]

PUBLISHED: dict[str, Form] = {
    "seconds": lambda time, _: f"{time.timestamp():.0f}",
    "seconds as floats": lambda time, _: f"{time.timestamp():.1f}",
    "milliseconds": lambda time, _: f"{time.timestamp() * 1e3:.0f}",
    "microseconds": lambda time, _: f"{time.timestamp() * 1e6:.0f}",
    "nanoseconds": lambda time, _: f"{time.value}",
    "Z": lambda time, _: time.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "Z in some rows": lambda time, row: time.strftime("%Y-%m-%d %H:%M:%S") + ("", "Z", " UTC", "+00:00")[row % 4],
    "offset": lambda time, _: time.tz_convert("Asia/Kolkata").strftime("%Y-%m-%d %H:%M:%S+05:30"),
    "offsets in some rows": lambda time, row: (
        time.tz_convert("Etc/GMT+7").isoformat() if row % 3 else time.strftime("%Y-%m-%d %H:%M:%S")
    ),
    "slashes": lambda time, _: time.strftime("%Y/%m/%d %H:%M:%S"),
    "no separators": lambda time, _: time.strftime("%Y%m%dT%H%M%SZ"),
    "fractions": lambda time, _: time.strftime("%Y-%m-%d %H:%M:%S.000000"),
}
SHOWN: dict[str, Form] = {
    "milliseconds since 1970": lambda time, _: f"{time.value // 10**6}",
    "nanoseconds": lambda time, _: f"{time.value}",
    "floats": lambda time, _: f"{time.value // 10**6 - EPOCH_MS}.0",
    "date": lambda time, _: time.strftime("%Y-%m-%d %H:%M:%S.%f"),
    "date with offset": lambda time, _: time.tz_convert("Asia/Kolkata").isoformat(timespec="milliseconds"),
}


def _rewrite(path: Path, column: str, form: Form) -> None:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    kaggle = (
        pd.to_datetime(table[column].astype("int64") + EPOCH_MS, unit="ms", utc=True)
        if column == "timestamp"
        else pd.to_datetime(table[column], utc=True)
    )
    table[column] = ["" if pd.isna(time) else form(time, row) for row, time in enumerate(kaggle)]
    table.to_csv(path, index=False)


@pytest.mark.parametrize("form", PUBLISHED.values(), ids=PUBLISHED)
def test_publish_times_in_other_forms_are_the_same_instants(form: Form, raw: Path, few_raw: Path, join: Join) -> None:
    late = pd.to_datetime(pd.read_csv(few_raw / META).publish_time) > datetime.datetime(1990, 1, 1)
    table = pd.read_csv(few_raw / META, dtype=str, keep_default_na=False)
    table.loc[~late, "publish_time"] = ""  # a number of seconds before 1990 is refused
    table.to_csv(raw / META, index=False)
    expected = join(raw)
    _rewrite(raw / META, "publish_time", form)
    assert join(raw) == expected
    assert sum(value != "nan" for value in expected["publish_time"]) > 10


@pytest.mark.parametrize("form", SHOWN.values(), ids=SHOWN)
def test_display_times_in_other_forms_are_the_same_instants(form: Form, raw: Path, few_raw: Path, join: Join) -> None:
    _rewrite(raw / EVENTS, "timestamp", form)
    assert join(raw) == join(few_raw)


def test_display_times_in_seconds_are_those_of_kaggle_without_fractions(raw: Path, few_raw: Path, join: Join) -> None:
    _rewrite(raw / EVENTS, "timestamp", lambda time, _: str(time.value // 10**9))
    found, expected = (np.array(join(folder)["timestamp"], dtype=float) for folder in (raw, few_raw))
    assert (np.abs(found - expected) < 1000).all()


REFUSED = {
    "05/06/2016": "the year is not first, so day and month could be confused",
    "25.06.2016 10:00": "the year is not first",
    "2016-02-30 00:00:00": "there is no such day or time",
    "2016-06-05 10:00:00+19:00": "there is no such offset",
    "2016-06-05 10:00:00 EST": "it is no time that can be read",
    "yesterday": "it is no time that can be read",
    "0": "it is no time from 1990 to 2029 in any unit",
    "2016": "it is no time from 1990 to 2029 in any unit",
    "2016060510": "it is no time from 1990 to 2029 in any unit",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items())
def test_publish_time_that_nobody_can_mean_is_refused(text: str, message: str, raw: Path, join: Join) -> None:
    lines = (raw / META).read_text().splitlines()
    lines[7] = ",".join([*lines[7].split(",")[:3], text])
    (raw / META).write_text("\n".join(lines) + "\n")
    place = re.escape(f"{raw / META}: column publish_time holds '{text}' in line 8")
    with pytest.raises(DataError, match=f"{place}: .*{message}.*; write it as 2016-06-05 14:30:00"):
        join(raw)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["61", "-70000"], "'-70000' in line 3: it is not in the year from June 2016; write milliseconds since"),
        (["61", "1465876800061"], "'1465876800061' in line 3: it is not in the year from June 2016"),
        (["1577836800000", "1577836800001"], "'1577836800000' in line 2: it is not in the year from June 2016"),
        (["14/06/2016 10:00", "15/06/2016 10:00"], "line 2: the year is not first"),
        (["2016-06-14 10:00", "2017-06-30 10:00"], "line 3: it is not in the year from June 2016"),
    ],
)
def test_display_time_that_nobody_can_mean_is_refused(texts: list[str], message: str, raw: Path, join: Join) -> None:
    rows = [f"{number},u,1,{text},1,US" for number, text in enumerate(texts, 1)]
    (raw / EVENTS).write_text("\n".join(["display_id,uuid,document_id,timestamp,platform,geo_location", *rows]))
    with pytest.raises(DataError, match=re.escape(f"{raw / EVENTS}: column timestamp holds ") + f".*{message}"):
        join(raw)


@pytest.mark.parametrize("year", ["0016", "3016"])
def test_year_that_nobody_means_gives_an_age_that_counts_as_0(
    year: str, raw: Path, join: Join, caplog: pytest.LogCaptureFixture
) -> None:
    (raw / META).write_text(re.sub(r"(?m),\d{4}-(\d\d-\d\d \S+)$", rf",{year}-\1", (raw / META).read_text()))
    join(raw)
    (told,) = [record for record in caplog.records if "ages count as 0" in record.getMessage()]
    assert told.levelname == "WARNING" and "100.0 % of" in told.getMessage()


def test_words_for_unknown_are_unknown() -> None:
    texts = pa.array(["2016-06-05 00:00:00", None, "NaT", "none"])
    assert publish_times(texts, lambda row, value: "").to_pylist() == [1465084800000.0, None, None, None]


def test_ages_that_count_as_0_are_told(raw: Path, join: Join, caplog: pytest.LogCaptureFixture) -> None:
    (raw / META).write_text(re.sub(r"(?m),\d{4}-(\d\d-\d\d \S+)$", r",1916-\1", (raw / META).read_text()))
    join(raw)
    (told,) = [record for record in caplog.records if "ages count as 0" in record.getMessage()]
    assert told.levelname == "WARNING"
    assert re.search(r"100\.0 % of .* publish_time in documents_meta\.csv is after", told.getMessage())
