"""Check of a request's shapes before the request is joined with others."""

from __future__ import annotations

from deployment_toolkit.core import Arrays, ModelSpec
from deployment_toolkit.errors import InputError


class RequestCheck:
    """Shapes that the inputs of a signature can have."""

    def __init__(self, spec: ModelSpec) -> None:
        self._inputs = spec.inputs
        self._fixed = [(tensor.name, tensor.shape) for tensor in spec.inputs if -1 not in tensor.shape]
        self._free = [tensor for tensor in spec.inputs if -1 in tensor.shape]

    def rows(self, x: Arrays, first: Arrays | None = None) -> int:
        """Number of rows of a request. Raises InputError, with the input, if they can't be joined with those of the
        request ``first``: another shape than the signature's or than that request's, where the signature leaves it
        open; inputs that don't agree on their rows; or rows without any value, of which a request could claim any
        number."""
        if any(x[name].shape[1:] != shape for name, shape in self._fixed):
            self._refuse(x)
        for tensor in self._free:
            if not tensor.fits(x[tensor.name].shape[1:]):
                self._refuse(x)
            if first is not None and x[tensor.name].shape[1:] != first[tensor.name].shape[1:]:
                raise InputError(f"input {tensor.name} has rows of another shape than the requests before it")
        sizes = {len(array) for array in x.values()}
        if len(sizes) != 1:
            raise InputError(f"the inputs of a request have {sorted(sizes)} rows: they must agree")
        (rows,) = sizes
        if rows and not any(array.size for array in x.values()):
            raise InputError("the rows of a request hold no values: send at least one in each row")
        return rows

    def _refuse(self, x: Arrays) -> None:
        for tensor in self._inputs:
            shape = x[tensor.name].shape
            if not tensor.fits(shape[1:]):
                raise InputError(f"input {tensor.name} is {list(shape)}, the model takes {['rows', *tensor.shape]}")
