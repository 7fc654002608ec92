"""Fitted NVTabular workflow as a model: raw features in, the network's inputs out, with the parquet files' values.

Raw features are the columns that the workflow was fitted on, without label and group id. For Outbrain's data they are
the columns of a click with its display, ad and documents (``joined_clicks``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from deployment_toolkit.core import Array, Arrays, ModelSpec, TensorSpec
from deployment_toolkit.errors import DataError, InputError
from deployment_toolkit.library.base import FrameworkSession
from widedeep.features.columns import columns_of
from widedeep.features.spec import FeatureSpec

if TYPE_CHECKING:
    import nvtabular

WORKFLOW, FEATURE_SPEC = "workflow", "feature_spec.yaml"  # names in the version folder of a served workflow
_REQUEST = Path("request")  # in errors, in place of the file that holds a value


class RawFeatures(FrameworkSession):
    """Model from ``{raw feature: [B, 1]}`` to ``{network input: [B, 1], or [B, max_hotness] padded with -1}``.

    Numbers have the dtypes of the workflow's columns, an unknown number is NaN. Strings are UTF-8 ``bytes`` or ``str``
    in object arrays, an unknown string is empty. Raises InputError, which names the feature, for an invalid value.
    """

    def __init__(self, workflow: nvtabular.Workflow, spec: FeatureSpec) -> None:
        """Checks the workflow. Raises DataError if it does not make the inputs of the specification."""
        from widedeep.features.files import feature_schema
        from widedeep.preprocessing.workflow_plan import WorkflowPlan

        inputs = {feature.name for feature in spec.inputs}
        given = [feature.name for feature in spec.columns if feature.name not in inputs]
        workflow = workflow.remove_inputs([name for name in given if name in workflow.input_schema.column_names])
        missing = sorted(inputs - set(workflow.output_schema.column_names))
        if missing:
            raise DataError(
                f"the workflow does not make {', '.join(missing)}: use the feature specification that came with it"
            )
        super().__init__(ModelSpec(tuple(map(_raw_tensor, workflow.input_schema)), spec.model_spec.inputs))
        self._schema = pa.schema([field for field in feature_schema(spec) if field.name in inputs])
        self._columns = [column for column in columns_of(spec) if column.name in inputs]
        self._plan = WorkflowPlan(workflow.graph)

    def infer_impl(self, x: Arrays) -> Arrays:
        """Transforms a batch like a partition in preprocessing, then converts it like the loader converts a file."""
        from widedeep.features.files import to_table

        raw = {spec.name: _column(spec, x[spec.name]) for spec in self.spec.inputs}
        try:
            table = to_table(self._plan.transform(raw), self._schema)
            return {
                column.name: column.to_numpy(table.column(column.name).combine_chunks(), _REQUEST, 0)
                for column in self._columns
            }
        except DataError as error:
            raise InputError(str(error)) from error


def load_raw_features(workflow_path: Path, spec: FeatureSpec) -> RawFeatures:
    """Loads the workflow that preprocessing saved. Raises DataError if there is none, or one that can't be read here or
    does not fit ``spec``."""
    from widedeep.preprocessing.workflow_file import load_workflow

    return RawFeatures(load_workflow(workflow_path), spec)


def _raw_tensor(column: Any) -> TensorSpec:
    if column.is_list:
        raise DataError(f"raw feature {column.name} is a list: a request can carry numbers and strings only")
    dtype = column.dtype.to_numpy
    return TensorSpec(column.name, "object" if dtype.kind in "OSU" else str(dtype), (1,))


def _column(spec: TensorSpec, array: Array) -> Array:
    values = array.reshape(-1)
    if spec.dtype != "object":
        return values
    decoded = np.empty(len(values), dtype=object)
    try:
        decoded[:] = [value.decode() if isinstance(value, bytes) else value for value in values.tolist()]
    except UnicodeDecodeError as error:
        raise InputError(f"input {spec.name} holds a string that is not UTF-8: {error}") from error
    return decoded
