"""Names of inputs that TensorFlow can't take."""

from __future__ import annotations

from collections.abc import Iterable
from keyword import iskeyword

from deployment_toolkit.errors import ModelError

_OWN = "self"  # a parameter of TensorFlow's functions, which take the inputs beside it, by name


def require_names(inputs: Iterable[str]) -> None:
    """Raises ModelError for an input whose name TensorFlow's functions can't take, as a parameter of Python."""
    for name in inputs:
        if name == _OWN or iskeyword(name):
            raise ModelError(
                f"TensorFlow can't take an input named {name}, a word of Python's: give the input another name"
            )
