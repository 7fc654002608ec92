from __future__ import annotations

import numpy as np
import pytest

from deployment_toolkit.core import Array
from deployment_toolkit.errors import ToleranceError
from deployment_toolkit.rows.tolerance import OutputComparison, Tolerance


def column(*values: float) -> Array:
    return np.array(values, np.float64)[:, None]


def compared(tolerance: Tolerance, reference: Array, candidate: Array) -> OutputComparison:
    comparison = OutputComparison({"score": tolerance})
    comparison.update({"score": reference}, {"score": candidate})
    return comparison


def test_tolerance_is_atol_plus_rtol_of_the_reference() -> None:
    tolerance = Tolerance(atol=0.25, rtol=0.5)  # of 4: 2.25
    assert compared(tolerance, column(4, 4, -4), column(6.25, 1.75, -6.25)).rows_out == 0
    assert compared(tolerance, column(4, 4, -4), column(6.3, 1.7, -6.3)).rows_out == 3
    assert compared(tolerance, column(6.3), column(4)).rows_out == 0  # the reference scales


@pytest.mark.parametrize(("reference", "candidate"), [(0.5, np.nan), (np.nan, 0.5), (np.nan, np.nan), (0.5, np.inf)])
def test_nan_and_infinity_never_agree(reference: float, candidate: float) -> None:
    comparison = compared(Tolerance(atol=1e9), column(0.5, reference), column(0.5, candidate))
    assert comparison.rows_out == 1
    with pytest.raises(ToleranceError, match="row 1 of score"):
        comparison.require_agreement("onnx")


def test_worst_rows_of_all_batches_are_shown_worst_first() -> None:
    comparison = OutputComparison({"a": Tolerance(0.1, 0), "b": Tolerance(10, 0)})
    zeros = np.zeros((10, 2))
    for start in (0, 10):
        wrong = zeros.copy()
        wrong[4:8, 1] = np.arange(4) + start + 1
        comparison.update({"a": zeros, "b": zeros}, {"a": wrong, "b": wrong})
    assert (comparison.rows, comparison.max_abs_diff) == (20, 14.0)
    assert comparison.rows_out == 8  # rows 14 to 17 are out in both outputs
    with pytest.raises(ToleranceError) as raised:
        comparison.require_agreement("onnx")
    message = str(raised.value)
    assert message.startswith("onnx: 8 of 20 rows out of tolerance (a atol 0.1 rtol 0, b atol 10 rtol 0): row 17 of a")
    assert "0 became 14" in message and message.count("row ") == 5
    assert [row.row for row in comparison.worst[:4]] == [17, 16, 15, 14]


def test_agreement_raises_nothing() -> None:
    comparison = compared(Tolerance(), column(1, 2), column(1, 2))
    comparison.require_agreement("onnx")
    assert (comparison.worst, comparison.max_abs_diff) == ([], 0.0)


def test_outputs_of_other_names_or_shapes_are_a_difference() -> None:
    comparison = OutputComparison({"score": Tolerance()})
    with pytest.raises(ToleranceError, match=r"outputs differ: \['score'\] became \['other'\]"):
        comparison.update({"score": column(1)}, {"other": column(1)})
    with pytest.raises(ToleranceError, match=r"differs in shape: \(1, 1\) became \(2, 1\)"):
        comparison.update({"score": column(1)}, {"score": column(1, 1)})
