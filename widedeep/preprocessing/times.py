"""Times in the raw files: when a display was shown, when a document was published.

A time is a date with the year first (``2016-06-05 14:30:00``, also with T, without seconds, or the day alone; in UTC,
or with an offset such as ``+02:00``), or a number of s, ms, us or ns since 1970. Displays also have Kaggle's own form,
the milliseconds since ``EPOCH_MS``. Any other text is refused: of 05/06/2016 nobody can say which is the month.
"""

from __future__ import annotations

import datetime
import logging
import re
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deployment_toolkit.core import Array
from deployment_toolkit.errors import DataError

LOGGER = logging.getLogger("preprocessing")

DAY_MS = 86_400_000
EPOCH_MS = 1_465_876_799_998  # Outbrain's timestamps count from here, in milliseconds since 1970
LONGEST_AGE_DAYS = 10 * 365

Place = Callable[
    [int, object], str
]  # from a row's number and its value to "<file>: column <name> holds <value> in <line>"

_WRITE_PUBLISHED = (
    "write it as 2016-06-05 14:30:00 (year first; UTC, or with an offset such as +02:00), or leave it empty if unknown"
)
_WRITE_SHOWN = (
    "write milliseconds since 2016-06-14 03:59:59.998 UTC, as Kaggle has them, since 1970, or 2016-06-14 14:30:00"
)
_UNKNOWN = {"", "\\n", "nat", "nan", "null", "none", "na"}
_NUMBER = re.compile(r"\d+(\.\d*)?")
_DATE = re.compile(
    r"(\d{4})([-/.]?)(\d\d?)\2(\d\d?)"
    r"(?:[T ]?\s*(\d\d?):?(\d\d)(?::?(\d\d)(?:[.,](\d{1,9}))?)?)?"
    r"\s*(?:Z|UTC|GMT|([+-])(\d\d)(?::?(\d\d))?)?",
    re.IGNORECASE,
)
_OTHER_ORDER = re.compile(r"\d\d?[-/. ]\d\d?[-/. ]\d{2,4}\b.*")
_1970 = datetime.datetime(1970, 1, 1)


def _ms_of_year(year: int) -> int:
    return (datetime.datetime(year, 1, 1) - _1970) // datetime.timedelta(milliseconds=1)


# A date farther away than 64-bit nanoseconds reach, the type that the original gives a time, counts as the nearest that
# they do reach: its age is impossible either way, and one such row should not stop millions. A number is a time from
# 1990 to 2029 only: there, one of seconds is none of milliseconds, and none of these is a date written as 2016060514.
_DATES_MS = (_ms_of_year(1678), _ms_of_year(2262))
_NUMBERS_MS = (_ms_of_year(1990), _ms_of_year(2030))
_UNITS_MS = {"seconds": 1e3, "milliseconds": 1.0, "microseconds": 1e-3, "nanoseconds": 1e-6}
_SHOWN_MS = (-1000, 366 * DAY_MS)  # of displays, since EPOCH_MS; whole seconds may lie before it


def age_days(shown_ms: Array, published_ms: Array) -> Array:
    """Whole days from a publication (ms since 1970, NaN unknown) to a display (ms since ``EPOCH_MS``), float64."""
    return np.asarray(np.floor((shown_ms + EPOCH_MS - published_ms) / DAY_MS))


def counts_as_new(age: Array) -> Array:
    """True for an age that is impossible or above ten years: it counts as 0 days, as in the original."""
    return np.asarray((age < 0) | (age > LONGEST_AGE_DAYS))


def publish_times(texts: pa.Array, place: Place) -> pa.Array:
    """Publication times as float64 milliseconds since 1970, null where a text is null or a word for unknown.

    Raises DataError, with place and remedy, for the first text that is no time, or a time nobody can mean.
    """
    return _instants(texts, place, _WRITE_PUBLISHED).cast(pa.float64())


class DisplayTimes:
    """Times of displays, from the texts of consecutive batches of one column. The first batch decides in which unit
    numbers are, if ``since_1970_ms`` does not: a number's milliseconds since 1970, 0 for Kaggle's form."""

    def __init__(self, since_1970_ms: float | None = None) -> None:
        self._since_1970_ms = since_1970_ms

    @property
    def since_1970_ms(self) -> float | None:
        """Unit of the numbers so far; None if there were none."""
        return self._since_1970_ms

    def __call__(self, texts: pa.Array, place: Place) -> pa.Array:
        """Milliseconds since ``EPOCH_MS``, int64. Raises DataError, with place and remedy, for the first text that is
        no time or not in the year from ``EPOCH_MS``."""
        numbers = _numbers(texts)
        if numbers is None:
            times = _instants(texts, place, _WRITE_SHOWN)
            if times.null_count:
                row = pc.index(times.is_null(), True).as_py()
                raise DataError(f"{place(row, texts[row].as_py())}: a display needs a time; {_WRITE_SHOWN}")
            shown = np.asarray(times) - EPOCH_MS
        else:
            unit = self._unit(numbers, place)
            # a hundredth more than nothing for what rounding takes away from nanoseconds
            shown = np.floor(numbers * (unit or 1) + 0.01).astype(np.int64) - (EPOCH_MS if unit else 0)
        outside = (shown < _SHOWN_MS[0]) | (shown > _SHOWN_MS[1])
        if outside.any():
            row = int(np.argmax(outside))
            raise DataError(f"{place(row, texts[row].as_py())}: it is not in the year from June 2016; {_WRITE_SHOWN}")
        return pa.array(shown, pa.int64())

    def _unit(self, numbers: Array, place: Place) -> float:
        if self._since_1970_ms is None:
            self._since_1970_ms = 0.0
            for name, unit in _UNITS_MS.items():
                since_ms = numbers * unit - EPOCH_MS
                if ((since_ms >= _SHOWN_MS[0]) & (since_ms <= _SHOWN_MS[1])).all():
                    LOGGER.info("%s: the column is read as %s since 1970", place(0, f"{numbers[0]:.0f}"), name)
                    self._since_1970_ms = unit
        return self._since_1970_ms


def _numbers(texts: pa.Array) -> Array | None:
    """The texts as float64, None if one is no number."""
    try:
        numbers = np.asarray(texts.cast(pa.float64()))
    except pa.ArrowInvalid:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _instants(texts: pa.Array, place: Place, remedy: str) -> pa.Array:
    """Milliseconds since 1970, int64, null for unknown times."""
    try:
        times = texts.cast(pa.timestamp("ms")).cast(pa.int64())
    except pa.ArrowInvalid:
        times = _one_by_one(texts, place, remedy)
    bounded = pc.max_element_wise(times, _DATES_MS[0], skip_nulls=False)
    return pc.min_element_wise(bounded, _DATES_MS[1], skip_nulls=False)


def _one_by_one(texts: pa.Array, place: Place, remedy: str) -> pa.Array:
    different = texts.dictionary_encode()
    times: list[int | None] = []
    for number, text in enumerate(different.dictionary.to_pylist()):
        try:
            times.append(None if text.casefold() in _UNKNOWN else _instant(text))
        except ValueError as error:
            row = pc.index(different.indices, pa.scalar(number, different.indices.type)).as_py()
            raise DataError(f"{place(row, text)}: {error}; {remedy}") from error
    return pa.array(times, pa.int64()).take(different.indices)


def _instant(text: str) -> int:
    """Milliseconds since 1970 of a text. Raises ValueError, which says why, if it has no single meaning."""
    if _NUMBER.fullmatch(text):
        for unit in _UNITS_MS.values():
            number_ms = Decimal(text) * Decimal(str(unit))
            if _NUMBERS_MS[0] <= number_ms < _NUMBERS_MS[1]:
                return int(number_ms)
    found = _DATE.fullmatch(text)
    if found is None or (not found[2] and len(found[3] + found[4]) != 4):
        if _NUMBER.fullmatch(text):
            raise ValueError("as a number since 1970 it is no time from 1990 to 2029 in any unit")
        if _OTHER_ORDER.fullmatch(text):
            raise ValueError("the year is not first, so day and month could be confused")
        raise ValueError("it is no time that can be read")
    year, _, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = found.groups()
    try:
        local = datetime.datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))
    except ValueError as error:
        raise ValueError("there is no such day or time") from error
    offset = datetime.timedelta(hours=int(offset_hours or 0), minutes=int(offset_minutes or 0))
    if offset > datetime.timedelta(hours=14):
        raise ValueError("there is no such offset from UTC")
    instant = local - _1970 + (offset if sign == "-" else -offset)
    return instant // datetime.timedelta(milliseconds=1) + int(f"{fraction or 0:0<3}"[:3])
