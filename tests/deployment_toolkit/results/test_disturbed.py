from __future__ import annotations

from typing import Any

from deployment_toolkit.results.disturbed import disturbance_sentence, judged, what_disturbed
from deployment_toolkit.results.performance import DISTURBED


def row(
    other: float | None, steal: float | None, before: float, after: float, disturbed: bool = False
) -> dict[str, Any]:
    """The columns of a row that this is about."""
    names = ("Other Cores", "Steal Cores", "CPU Speed Before", "CPU Speed After", "Disturbed")
    return dict(zip(names, (other, steal, before, after, disturbed), strict=True))


QUIET = row(0.02, 0.0, 8.0, 8.1)
OLD = dict.fromkeys(QUIET)


def test_a_row_is_judged_by_the_best_speed_of_its_run() -> None:
    """9.7 ms are more than a fifth above 8.0, though before and after the measurement the CPU was alike."""
    slow = row(0.0, 0.0, 9.65, 9.7)
    assert [item[DISTURBED] for item in judged([slow])] == [False]
    assert [item[DISTURBED] for item in judged([QUIET, slow, OLD])] == [False, True, None]
    assert judged([slow], among=[QUIET]) == [{**slow, DISTURBED: True}]
    assert judged([row(0.5, 0.0, 8.0, 8.0, True), QUIET])[0][DISTURBED], "what was marked stays marked"


def test_one_sentence_tells_how_many_measurements_were_disturbed_and_by_what() -> None:
    assert disturbance_sentence([QUIET, QUIET]) == (
        "No measurement was disturbed: other programs used at most 0.02 cores."
    )
    busy, slow = row(0.7, 0.05, 8.0, 8.0, True), row(0.1, 0.0, 12.0, 12.0)
    assert disturbance_sentence([QUIET, busy, busy]) == (
        "2 of 3 measurements were disturbed (‡): other programs used up to 0.70 cores, other virtual machines took "
        "up to 0.05 cores."
    )
    assert disturbance_sentence([QUIET, slow, OLD]) == (
        "1 of 2 measurements was disturbed (‡): other programs used up to 0.10 cores, the CPU took up to 1.5 times as "
        "long for the same work as at best."
    )
    assert what_disturbed(busy) == "other programs used 0.70 cores, other virtual machines took 0.05 cores"


def test_what_is_unknown_is_told() -> None:
    assert disturbance_sentence([]) == disturbance_sentence([OLD]) == ""
    unknown = row(None, 0.0, 8.0, 8.0)
    assert disturbance_sentence([unknown]) == "No measurement was disturbed: what other programs used is unknown."
    assert disturbance_sentence([unknown, QUIET]) == (
        "No measurement was disturbed: other programs used at most 0.02 cores, what other programs used is unknown for "
        "1 of them."
    )
