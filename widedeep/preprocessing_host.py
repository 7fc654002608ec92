"""Host of a workflow in Triton's Python backend: raw features in, the network's inputs out.

A model repository's ``model.py`` imports it inside the backend's process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from deployment_toolkit import python_host
from deployment_toolkit.core import ModelSpec
from deployment_toolkit.errors import DeploymentError
from deployment_toolkit.python_backend import tensors
from deployment_toolkit.python_backend.request_check import RequestCheck
from deployment_toolkit.rows.valid_values import ValidValues
from widedeep.features.spec import load_feature_spec
from widedeep.preprocessing.raw_features import FEATURE_SPEC, WORKFLOW, load_raw_features


class TritonPythonModel(python_host.TritonPythonModel):
    """Class that the Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the workflow and the specification in the model's version folder."""
        folder = Path(args["model_repository"]) / args["model_version"]
        self._valid = ValidValues(ModelSpec((), ()), finite=False)  # every value of a raw feature is one
        try:
            python_host.compare_files(args)
            self._session = load_raw_features(folder / WORKFLOW, load_feature_spec(folder / FEATURE_SPEC))
            self._check = RequestCheck(self._session.spec)
            tensors.prepare(self._session.spec)
        except DeploymentError as error:
            raise pb_utils.TritonModelException(" ".join(str(error).split())) from None

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Returns one response per request, in order; the rows of all requests are transformed together. If this fails,
        each request is transformed alone, so that only the request with an invalid row gets the error."""
        responses = super().execute(requests)
        if len(requests) > 1 and any(response.has_error() for response in responses):
            responses = [super(TritonPythonModel, self).execute([request])[0] for request in requests]
        return responses
