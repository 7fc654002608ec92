from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deployment_toolkit.core import Arrays, ModelSpec, TensorSpec
from deployment_toolkit.errors import InputError, ModelError, UsageError
from deployment_toolkit.packing import column_bounds, pack, packed_spec, unpack
from deployment_toolkit.rows.sample import random_rows
from deployment_toolkit.rows.size_check import check_rows

SPEC = ModelSpec(
    inputs=(
        TensorSpec("tags", "int32", (3,), (-1, 4)),
        TensorSpec("item", "int64", (1,), (0, 9)),
        TensorSpec("flag", "int8", ()),
        TensorSpec("price", "float32", (1,)),
        TensorSpec("age", "float32", (1,)),
        TensorSpec("picture", "float32", (2, 2)),
    ),
    outputs=(TensorSpec("score", "float32", (1,)),),
)
PACKED = packed_spec(SPEC)


def rows(count: int) -> Arrays:
    return random_rows(SPEC.with_value_ranges({"flag": (-128, 127)}), count, seed=count)


def test_packed_signature_has_inputs_in_the_order_of_their_names() -> None:
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in PACKED.inputs] == [
        ("categorical_features", "int32", (5,)),
        ("numerical_features", "float32", (6,)),
    ]
    assert [[column.name for column in tensor.columns] for tensor in PACKED.inputs] == [
        ["flag", "item", "tags"],
        ["age", "picture", "price"],
    ]
    assert PACKED.value_ranges == {"flag": (-128, 127), "item": (0, 9), "tags": (-1, 4)}
    assert PACKED.outputs == SPEC.outputs and packed_spec(PACKED) is PACKED
    assert [array.tolist() for array in column_bounds(PACKED.inputs[0])] == [[-128, 0, *[-1] * 3], [127, 9, *[4] * 3]]


def test_signature_of_only_ids_has_one_tensor() -> None:
    spec = packed_spec(ModelSpec(SPEC.inputs[1:3], SPEC.outputs))
    assert [tensor.name for tensor in spec.inputs] == ["categorical_features"]


def test_stored_signature_keeps_columns() -> None:
    stored = ModelSpec.from_dict(json.loads(json.dumps(PACKED.to_dict())))
    assert stored == PACKED
    assert "columns" not in json.dumps(SPEC.to_dict())
    plain = ModelSpec(tuple(replace(tensor, columns=()) for tensor in PACKED.inputs), SPEC.outputs)
    assert plain.described_by(stored) == PACKED and plain.described_by(None) is plain
    assert PACKED.with_value_ranges({"item": (0, 3)}).value_ranges["item"] == (0, 3)
    assert PACKED.with_names({"numerical_features": "x"}, {}).inputs[1].columns == PACKED.inputs[1].columns
    other = ModelSpec((TensorSpec("numerical_features", "float32", (5,)),), SPEC.outputs)
    with pytest.raises(ModelError, match=r"numerical_features has the shape \[5\], its columns need \[6\]"):
        other.described_by(stored)


def test_rows_are_packed_and_unpacked() -> None:
    for count in (0, 1, 7):
        x = rows(count)
        packed = pack(x, PACKED)
        assert PACKED.check_inputs(packed) == count
        found = unpack(packed, PACKED)
        assert found.keys() == x.keys()
        for name, array in x.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)
        assert pack(x, SPEC).keys() == x.keys() == unpack(x, SPEC).keys()
    assert check_rows(PACKED, 3)["categorical_features"].shape == (3, 5)


def test_id_beyond_int32_is_refused_where_it_is_packed() -> None:
    x = rows(2)
    x["item"][1] = 2**32 + 1  # as int32 it would be 1
    with pytest.raises(InputError, match="input item holds a number that does not fit int32"):
        pack(x, PACKED)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (1, 10, r"input categorical_features: item holds id 10, outside 0 \.\. 9 \(cardinality 10\)"),
        (4, -2, r"input categorical_features: tags holds id -2, outside -1 \.\. 4"),
        (0, 200, r"input categorical_features: flag holds id 200"),
    ],
)
def test_id_outside_its_table_is_refused_by_its_feature(column: int, value: int, message: str) -> None:
    packed = pack(rows(3), PACKED)
    packed["categorical_features"][2, column] = value
    with pytest.raises(InputError, match=message):
        PACKED.check_inputs(packed)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dtype": "object"}, "it holds strings, only float32 and integers can be packed"),
        ({"dtype": "float64"}, "it holds float64, only"),
        ({"dtype": "bool"}, "it holds bool, only"),
        ({"shape": (-1,)}, r"its rows are of the free shape \[-1\]"),
        ({"dtype": "int64"}, "it holds int64 from -9223372036854775808 to 9223372036854775807, more than int32 can"),
        ({"dtype": "int64", "value_range": (0, 2**31)}, "it holds int64 from 0 to 2147483648"),
    ],
)
def test_input_that_can_not_be_packed_is_named(changes: dict[str, Any], reason: str) -> None:
    spec = ModelSpec((replace(TensorSpec("x", "float32", (1,)), **changes), *SPEC.inputs), SPEC.outputs)
    with pytest.raises(UsageError, match=f"input x can't be packed: {reason}") as caught:
        packed_spec(spec)
    assert "\n" not in str(caught.value)
