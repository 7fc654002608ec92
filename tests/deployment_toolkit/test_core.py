from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from deployment_toolkit.core import Arrays, ModelSpec, TensorSpec
from deployment_toolkit.errors import InputError, ModelError

SPEC = ModelSpec(
    inputs=(
        TensorSpec("tags", "int32", (3,), (-1, 4)),
        TensorSpec("item", "int32", (1,), (0, 9)),
        TensorSpec("picture", "float32", (-1, 2)),
    ),
    outputs=(TensorSpec("score", "float32", (1,)),),
)


def rows(**replaced: Any) -> Arrays:
    good = {
        "item": np.array([[0], [9]], np.int32),
        "tags": np.array([[-1, -1, -1], [4, 0, -1]], np.int32),
        "picture": np.zeros((2, 5, 2), np.float32),
    }
    return {name: array for name, array in (good | replaced).items() if array is not None}


def test_free_dimension_fits_any_size() -> None:
    picture = TensorSpec("picture", "float32", (-1, 2))
    assert picture.fits((5, 2)) and picture.fits((-1, 2))
    assert not picture.fits((5, 3)) and not picture.fits((5,)) and not picture.fits((5, 2, 1))


def test_batch_inside_the_signature_passes() -> None:
    assert SPEC.check_inputs(rows()) == 2
    assert SPEC.check_inputs({name: array[:0] for name, array in rows().items()}) == 0


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"item": None, "other": np.zeros(2)}, r"missing \['item'\], unknown \['other'\]"),
        ({"item": np.zeros((2, 1), np.int64)}, r"input item is int64\[2, 1\], the model takes int32\['batch', 1\]"),
        ({"item": np.zeros(2, np.int32)}, r"input item is int32\[2\]"),
        ({"tags": np.zeros((2, 4), np.int32)}, r"input tags is int32\[2, 4\]"),
        ({"picture": np.zeros((2, 5, 3), np.float32)}, "input picture"),
        ({"tags": np.zeros((3, 3), np.int32)}, "input tags has 3 rows, the inputs before it have 2"),
        ({"item": np.array([[0], [10]], np.int32)}, r"item holds id 10, outside 0 \.\. 9 \(cardinality 10\)"),
        ({"item": np.array([[-1], [3]], np.int32)}, r"item holds id -1, outside 0 \.\. 9"),
        ({"tags": np.full((2, 3), -2, np.int32)}, r"tags holds id -2, outside -1 \.\. 4 \(cardinality 5\)"),
    ],
)
def test_batch_outside_the_signature_is_refused(replaced: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SPEC.check_inputs(rows(**replaced))


def test_model_spec_is_unchanged_by_json() -> None:
    assert ModelSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))) == SPEC
    assert [spec.name for spec in SPEC.inputs] == ["item", "picture", "tags"]


def _with_input(**changed: Any) -> Any:
    return {"inputs": [{"name": "a", "dtype": "int32", "shape": [1], **changed}], "outputs": []}


@pytest.mark.parametrize(
    "stored",
    [
        *("{", "[1]", "{}", '{"inputs": [{"name": "a"}], "outputs": []}', None, {"inputs": 3}),
        *("[" * 100_000, '{"inputs": [' + '{"columns": [' * 50_000),
        *(_with_input(name=name) for name in (None, 3, "", ["a"])),
        *(_with_input(dtype=dtype) for dtype in (None, 3, "", "<f4", "a b")),
        *(_with_input(shape=shape) for shape in (None, 3, "1", [1.5], [True], [-2], [2**31], [[1]], ["1"])),
        *(_with_input(value_range=bounds) for bounds in (3, [0], [0, float("inf")], [0, "9"], [9, 0], [0, 2**64])),
    ],
)
def test_damaged_signature_is_told_with_its_place(stored: Any) -> None:
    with pytest.raises(ModelError, match="the signature in model.onnx is damaged .*: make the model again"):
        ModelSpec.read(stored, "model.onnx")
    assert ModelSpec.read(json.dumps(SPEC.to_dict()), "") == ModelSpec.read(SPEC.to_dict(), "") == SPEC


def test_value_ranges_replace_those_of_named_inputs() -> None:
    changed = SPEC.with_value_ranges({"item": (0, 3), "nothing": (0, 1)})
    assert changed.value_ranges == {"item": (0, 3), "tags": (-1, 4)}
