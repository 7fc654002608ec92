"""Keys of the parameters in a model's config.pbtxt."""

from __future__ import annotations

MODEL_SPEC = "model_spec"
MODEL_FORMAT = "model_format"
MODEL_FILE = "model_file"
THREADS = "threads"
INFERENCE_PRECISION = "inference_precision"
STREAMS = "streams"
UNDIVIDED_ROWS = "undivided_rows"
PACKED_INPUTS = "packed_inputs"
NON_FINITE = "non_finite"
REFUSED, ACCEPTED = "refused", "accepted"  # values of NON_FINITE
