"""A user's ``MetricsCalculator``, of this project's contract or the original's, with one interface.

A calculator of the original's contract derives from ``BaseMetricsCalculator``. It reads the label by the output's name,
also that of a dump whose dataloader has given it another name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from deployment_toolkit.core import Array, Arrays, Prediction
from deployment_toolkit.errors import DataError, ModelError, UsageError

_BASE = "BaseMetricsCalculator"
_PARAMETERS = ("ids", "y_pred", "x", "y_real")


def is_original(calculator: type) -> bool:
    """True for a class of the original's contract; its base may be the original's own class of this name."""
    return any(base.__name__ == _BASE for base in calculator.__mro__[1:])


def require_calculator(calculator: Any, where: str) -> None:
    """Raises ModelError if ``MetricsCalculator`` of the module ``where`` is a class without ``update`` and
    ``metrics``."""
    if not inspect.isclass(calculator):
        return
    abstract = getattr(calculator, "__abstractmethods__", ())
    missing = [name for name in ("update", "metrics") if name in abstract or not hasattr(calculator, name)]
    if missing:
        contract = f"the original's (its base is {_BASE})" if is_original(calculator) else "this project's"
        old = ", it has calc of the original's earlier versions instead" if hasattr(calculator, "calc") else ""
        raise ModelError(
            f"MetricsCalculator of {where} follows the contract {contract} and lacks {' and '.join(missing)}{old}: "
            "update(ids, y_pred, x, y_real) takes each batch, the property metrics is read at the end"
        )


class PluginCalculator:
    """A calculator that takes predictions."""

    def __init__(self, calculator: Any) -> None:
        self._calculator = calculator
        self._is_original = is_original(type(calculator))
        self._by_name = self._is_original or _takes_names(calculator.update)

    def update(self, prediction: Prediction) -> None:
        """Adds a batch. Raises what the calculator raises, and UsageError or DataError if it reads an output, an input
        or a label that the dump does not have."""
        batch = prediction.batch
        ids: Array | Sequence[Any] = list(batch.ids) if self._is_original else batch.ids
        x = None if self._is_original and not batch.x else _Inputs(batch.x)
        labels = _Labels(batch.y, prediction.y_pred, by_output=self._is_original)
        values = (ids, _Outputs(prediction.y_pred), x, labels)
        if self._by_name:
            self._calculator.update(**dict(zip(_PARAMETERS, values, strict=True)))
        else:
            self._calculator.update(*values)

    @property
    def metrics(self) -> dict[str, float]:
        """Values by name. Raises ModelError for one that is no number."""
        values = self._calculator.metrics
        try:
            return {str(name): float(value) for name, value in values.items()}
        except (AttributeError, TypeError, ValueError) as error:
            name = f"{type(self._calculator).__name__}.metrics"
            raise ModelError(f"{name} gives {values!r}: a dict of numbers is wanted") from error


class _Outputs(dict[str, Array]):
    def __missing__(self, name: str) -> Array:
        raise UsageError(f"the metrics read the output {name}: there is no such output, there are {sorted(self)}")


class _Inputs(dict[str, Array]):
    def __missing__(self, name: str) -> Array:
        if not self:
            raise DataError(f"the metrics need the input {name}: make the dump with --dump-inputs")
        raise DataError(f"the metrics read the input {name}: there is no such input, there are {sorted(self)}")


class _Labels(dict[str, Array]):
    """Labels by name. The only one belongs to every output: it is also read by an output's name, and ``by_output`` it
    has these names alone."""

    def __init__(self, labels: Arrays, outputs: Arrays, *, by_output: bool) -> None:
        self._named_by_output = not labels.keys().isdisjoint(outputs)
        self._only = next(iter(labels.values())) if len(labels) == 1 and not self._named_by_output else None
        self._outputs, self._by_output = outputs.keys(), by_output
        super().__init__(dict.fromkeys(outputs, self._only) if by_output and self._only is not None else labels)

    def __missing__(self, name: str) -> Array:
        if not self:
            raise DataError("metrics need labels: make the dump with --dump-labels")
        if self._only is not None and name in self._outputs:
            return self._only
        if self._by_output and name not in self._outputs:
            raise UsageError(
                f"the metrics read the label of output {name}: there is no such output, there are "
                f"{sorted(self._outputs)}"
            )
        named = "the names of outputs, as the original's dataloaders give" if self._named_by_output else "other names"
        raise DataError(f"the metrics read the label {name}: the dump's labels {sorted(self)} have {named}")


def _takes_names(update: Callable[..., Any]) -> bool:
    parameters = inspect.signature(update).parameters
    any_name = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return any_name or set(_PARAMETERS) <= parameters.keys()
