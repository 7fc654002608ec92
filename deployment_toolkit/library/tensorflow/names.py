"""Names of inputs that TensorFlow can't take."""

from __future__ import annotations

from collections.abc import Iterable

from deployment_toolkit.errors import ModelError

_OWN = "self"  # a parameter of TensorFlow's functions, which take the inputs beside it, by name


def require_names(inputs: Iterable[str]) -> None:
    """Raises ModelError for an input whose name TensorFlow can't take."""
    if _OWN in inputs:
        raise ModelError(f"TensorFlow can't take an input named {_OWN}, a name of its own: give the input another name")
