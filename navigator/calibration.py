"""Rows for int8 calibration: from the training data, never from the data that judge the result."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from deployment_toolkit.core import Arrays, Precision
from deployment_toolkit.errors import UsageError, require_options_at_least
from deployment_toolkit.files import fingerprint
from deployment_toolkit.options.command_line import DATALOADER
from deployment_toolkit.options.params import from_args, option
from deployment_toolkit.options.plugins import call_plugin, load_module
from deployment_toolkit.rows.sample import first_rows
from navigator.attempts import Attempt
from navigator.signature import Signature

_ROWS_A_BATCH = 2048


@dataclass(frozen=True)
class CalibrationOptions:
    """Options of int8 calibration."""

    calibration_data_pattern: str | None = option(
        "int8: the --dataloader's --data-pattern for training data to calibrate on", None
    )
    calibration_rows: int = option(
        "int8: how many of its first rows; half of them measure, the others calibrate", 32768
    )
    max_quantization_noise: float = option(
        "int8: largest noise that rounding may add to the scores, as a share of their variance (it costs ROC AUC at "
        "most an eighth of it); layers that make more stay in bf16 (openvino) or fp32 (onnx)",
        0.002,
    )

    def __post_init__(self) -> None:
        require_options_at_least(self, ["calibration_rows"], 2)
        if not self.max_quantization_noise > 0:
            raise UsageError(f"--max-quantization-noise must be above 0, not {self.max_quantization_noise:g}")


@dataclass(frozen=True)
class Calibration:
    """Batches for a converter to int8, each with rows of all parts of the data, and the limit of noise."""

    batches: Sequence[Arrays]
    max_noise: float

    @property
    def origin(self) -> dict[str, object]:
        """Values on which a converted model depends."""
        return {"rows": fingerprint.of_batches(self.batches), "max_noise": self.max_noise}


def needs_calibration(attempts: Sequence[Attempt]) -> bool:
    """True if one of the attempts makes int8 with calibration rows."""
    return any(attempt.reduced_precision is Precision.INT8 for attempt in attempts)


def read_calibration(args: argparse.Namespace, signature: Signature) -> Calibration:
    """Reads the rows, with the converted model's names of its inputs.

    Raises UsageError without a pattern or a dataloader that takes one, InputError for rows that don't fit the model.
    """
    options = from_args(CalibrationOptions, args)
    if options.calibration_data_pattern is None or args.dataloader is None:
        raise UsageError("int8 is calibrated on training data: give --dataloader and --calibration-data-pattern")
    if not hasattr(args, "data_pattern"):
        raise UsageError(f"--calibration-data-pattern: {args.dataloader} takes no --data-pattern to put it in place of")
    module = load_module(args.dataloader, DATALOADER.protocol)
    other = argparse.Namespace(**{**vars(args), "data_pattern": options.calibration_data_pattern})
    rows = signature.from_source(first_rows(call_plugin(DATALOADER, module, other), options.calibration_rows))
    count = signature.spec.check_inputs(rows)
    if count < 2:
        raise UsageError(f"--calibration-data-pattern {options.calibration_data_pattern}: one row is too few")
    step = max(2, -(-count // _ROWS_A_BATCH))
    batches = [{name: array[start::step].copy() for name, array in rows.items()} for start in range(step)]
    return Calibration(batches, options.max_quantization_noise)
