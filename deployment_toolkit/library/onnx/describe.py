"""The signature in the metadata of an ONNX file."""

from __future__ import annotations

import json
from pathlib import Path

from deployment_toolkit.core import ModelSpec
from deployment_toolkit.library.base import SPEC_KEY
from deployment_toolkit.library.onnx.reading import read_onnx
from deployment_toolkit.library.onnx.writing import save_onnx


def describe_onnx(source: Path, target: Path, spec: ModelSpec) -> None:
    """Copies an ONNX file, with ``spec`` in its metadata in place of what is there. Raises ModelError if the source is
    no ONNX file or weights are missing, DataError if the disk is too small."""
    model = read_onnx(source, with_external_data=False)
    kept = [entry for entry in model.metadata_props if entry.key != SPEC_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=SPEC_KEY, value=json.dumps(spec.to_dict()))
    save_onnx(model, source, target)
