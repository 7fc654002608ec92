"""One family of exceptions: what a user can mend. Anything else that is raised is a bug and shows its traceback.

DeploymentError               one line: what, where, what to do; exit code 1
  UsageError                  an option or a configuration value is wrong
  DataError                   a parquet file, a data pattern, a feature specification or a dump is wrong
  ModelError                  a checkpoint, a model file or a plug-in module is wrong
    InputError                a batch that the model can't take: name, dtype, shape or value
    SizeError                 a model that answers the same rows differently in a request of another size
  ConversionError             a format could not be made
    ToleranceError            two models answer differently
  ServerError                 a server that can't be started or reached, or a model that isn't there
    BackendError              the server has no backend for a model's format
    InferenceError            the server answered a request with an error
  PerformanceError            a measurement could not be made
  BuildError                  code that can't be compiled here
  ContainerError              a container engine, an image or a container that can't be had
  DeviceError                 a GPU is asked for and there is none, or not the one that is needed; or a CPU's precision
  ProcessError                a child process failed, with both its streams
"""

from __future__ import annotations

from collections.abc import Iterable


class DeploymentError(Exception):
    """Base of the family. The message is one line: what is wrong, where, and what to do."""


class UsageError(DeploymentError):
    """An option or a configuration value is wrong."""


class DataError(DeploymentError):
    """A parquet file, a data pattern, a feature specification or a dump is wrong."""


class ModelError(DeploymentError):
    """A checkpoint, a model file or a plug-in module is wrong."""


class InputError(ModelError):
    """A batch that the model can't take: a name, dtype, shape or value outside its signature."""


class SizeError(ModelError):
    """A model that answers the same rows differently in a request of another size."""


class ConversionError(DeploymentError):
    """A format could not be made."""


class ToleranceError(ConversionError):
    """Two models answer differently by more than the stated tolerance."""


class ServerError(DeploymentError):
    """A server that can't be started or reached, or a model that isn't there."""


class BackendError(ServerError):
    """The server has no backend for a model's format."""


class InferenceError(ServerError):
    """The server answered a request with an error."""


class PerformanceError(DeploymentError):
    """A measurement could not be made."""


class BuildError(DeploymentError):
    """Code that can't be compiled here: no compiler, or something that it needs is missing."""


class ContainerError(DeploymentError):
    """A container engine that isn't there, an image that can't be had, a container that can't be started."""


class DeviceError(DeploymentError):
    """A GPU is asked for and there is none, or not the one that is needed; or a precision that the CPU lacks."""


class ProcessError(DeploymentError):
    """A child process exited with an error or ran out of time.

    ``returncode`` is negative for a signal, None for a timeout; ``stdout`` and ``stderr`` are what it printed.
    """

    def __init__(self, message: str, *, returncode: int | None, stdout: str = "", stderr: str = "") -> None:
        super().__init__(message)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr


def require_at_least(name: str, value: float, least: int) -> None:
    """Raises UsageError if a value, which ``name`` names to people, is below ``least``."""
    if value < least:
        raise UsageError(f"{name} must be at least {least}, not {value}")


def require_options_at_least(options: object, names: Iterable[str], least: int) -> None:
    """``require_at_least`` for fields of an option group, named as on the command line."""
    for name in names:
        require_at_least(f"--{name.replace('_', '-')}", getattr(options, name), least)
