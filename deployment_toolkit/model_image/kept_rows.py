"""The rows that are kept with a model, by which a gate judges it: a dump of a framework's answers, with its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deployment_toolkit.core import ModelSpec
from deployment_toolkit.errors import DataError, InputError
from deployment_toolkit.model_image.servable import CONFIG, ServableModel
from deployment_toolkit.rows.dump import Dump
from deployment_toolkit.triton_server.config_keys import MODEL_SPEC

_MAKE = "make it with run_inference_on_fw.py --dump-inputs --dump-labels"


def require_rows_of(path: Path, models: Sequence[ServableModel]) -> int:
    """Number of rows of a reference dump that can be sent to a model of the repository.

    Raises DataError if there is no dump at ``path``, if it has no rows, inputs or labels, or if no model takes them and
    gives its outputs.
    """
    dump = Dump(path)
    missing = [section for section in ("inputs", "labels") if section not in dump.sections]
    if missing or dump.rows == 0:
        raise DataError(f"dump {path} has no {' and no '.join(missing) or 'rows'}: {_MAKE}")
    reasons = [f"{model.folder.name}: {reason}" for model in models if (reason := _misfit(dump, model))]
    if len(reasons) == len(models):
        raise DataError(f"dump {path} is of no model here ({'; '.join(reasons)}): {_MAKE} of the model that is served")
    return dump.rows


def _misfit(dump: Dump, model: ServableModel) -> str | None:
    """Why the rows are not the model's; None if they are."""
    stored = model.parameters.get(MODEL_SPEC)
    if stored is None:
        return "its configuration does not tell its signature"
    spec = ModelSpec.read(stored, str(model.folder / CONFIG)).unpacked
    outputs = {tensor.name for tensor in spec.outputs}
    for prediction in dump.predictions():
        if prediction.y_pred.keys() != outputs:
            return f"its outputs are {sorted(outputs)}, the dump's {sorted(prediction.y_pred)}"
        try:
            spec.check_inputs(prediction.batch.x)
        except InputError as error:
            return str(error)
    return None
