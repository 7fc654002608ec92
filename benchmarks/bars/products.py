"""Measures rows per second of a network's matrix products alone, in bfloat16: the limit of any host for that network.

OpenVINO multiplies with oneDNN, weights packed once. Operands, weights and results are bfloat16, so nothing is
converted. If a product's rows are as long as the previous result, they are that result. Products with one column (the
last layer's) are left out. Prints JSON: rows/s and the shapes.

Run from the repository's root: ``python -m benchmarks.bars.products --input-path OPENVINO_FOLDER``
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from benchmarks.bars.timing import calls_per_s
from deployment_toolkit.core import Format
from deployment_toolkit.errors import ModelError
from deployment_toolkit.library.model_files import MAIN_FILES
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point

_BF16 = openvino.Type.bf16


@dataclass(frozen=True)
class ProductOptions:
    """Options of the command."""

    input_path: Path = option("OpenVINO model whose matrix products are meant")
    rows: int = option("rows of the operand", 4096)
    threads: int | None = option("threads; default: the runtime's choice", None)
    seconds: float = option("seconds of the measurement", 3.0)


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, ProductOptions)
    options = from_args(ProductOptions, parser.parse_args(argv))
    shapes = product_shapes(options.input_path)
    call = compile_products(shapes, options.rows, options.threads)
    rate = options.rows * calls_per_s(lambda _: call(), [None], options.seconds)
    print(json.dumps({"rows_per_s": rate, "shapes": shapes}))


def product_shapes(path: Path) -> list[tuple[int, int]]:
    """Length and number of the columns of every matrix in a model's products, in order. Raises ModelError if there are
    none."""
    model = openvino.Core().read_model(str(path / MAIN_FILES[Format.OPENVINO]))
    shapes = []
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul":
            shape = node.input_value(1).get_partial_shape()
            if shape.is_static and len(shape) == 2:
                sizes = [size.get_length() for size in shape]
                shapes.append((sizes[1], sizes[0]) if node.get_attributes()["transpose_b"] else (sizes[0], sizes[1]))
    shapes = [(length, columns) for length, columns in shapes if columns > 1]
    if not shapes:
        raise ModelError(f"{path} has no matrix products")
    return shapes


def compile_products(shapes: Sequence[tuple[int, int]], rows: int, threads: int | None) -> Any:
    """Function without arguments that multiplies once."""
    generator = np.random.default_rng(0)
    parameters: list[Any] = []
    results: list[Any] = []
    value: Any = None
    for index, (length, columns) in enumerate(shapes):
        if value is None or shapes[index - 1][1] != length:
            if value is not None:
                results.append(value)
            value = ops.parameter([rows, length], _BF16)
            parameters.append(value)
        weights = generator.normal(0, length**-0.5, (columns, length)).astype(np.float32)
        value = ops.matmul(value, ops.constant(weights, dtype=_BF16), transpose_a=False, transpose_b=True)
    model = openvino.Model([*results, value], parameters)
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"}
    config |= {"ENABLE_CPU_PINNING": False} | ({} if threads is None else {"INFERENCE_NUM_THREADS": threads})
    request = openvino.Core().compile_model(model, "CPU", config).create_infer_request()
    for index, parameter in enumerate(parameters):
        operand = openvino.Tensor(_BF16, parameter.get_output_shape(0))
        normal = generator.normal(0, 1, tuple(operand.shape)).astype(np.float32)
        operand.data[:] = _bfloat16_bits(normal).view(operand.data.dtype)
        request.set_input_tensor(index, operand)
    return request.infer


def _bfloat16_bits(values: Any) -> Any:
    """Upper half of each float32."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


if __name__ == "__main__":
    run_entry_point(main)
