"""Measures rows per second of matrix products alone in bfloat16 with TensorFlow, a second limit in addition to
OpenVINO's, which may be lower. Prints a number.

Run from the repository's root: ``python -m benchmarks.bars.tf_products --shapes 1472,1024 1024,1024 …``
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.bars.timing import calls_per_s
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point


@dataclass(frozen=True)
class TensorFlowProductOptions:
    """Options of the command."""

    shapes: list[str] = option("length,columns of each matrix", nargs="+", metavar="LENGTH,COLUMNS")
    rows: int = option("rows of the operand", 4096)
    threads: int | None = option("threads; default: TensorFlow's choice", None)
    seconds: float = option("seconds of the measurement", 3.0)


def main(argv: list[str]) -> None:
    import tensorflow as tf

    parser = make_parser(__doc__ or "")
    add_dataclass(parser, TensorFlowProductOptions)
    options = from_args(TensorFlowProductOptions, parser.parse_args(argv))
    if options.threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    shapes = [tuple(map(int, text.split(","))) for text in options.shapes]
    weights = [tf.cast(tf.random.normal(shape, stddev=shape[0] ** -0.5), tf.bfloat16) for shape in shapes]
    operands = {shape[0]: tf.cast(tf.random.normal((options.rows, shape[0])), tf.bfloat16) for shape in shapes}

    def multiply() -> Any:
        value: Any = None
        done: list[Any] = []
        for matrix in weights:
            if value is None or value.shape[1] != matrix.shape[0]:
                done += [] if value is None else [value]
                value = operands[matrix.shape[0]]
            value = tf.matmul(value, matrix)
        return [*done, value]

    function = tf.function(multiply, autograph=False)
    print(options.rows * calls_per_s(lambda _: function(), [None], options.seconds))


if __name__ == "__main__":
    run_entry_point(main)
