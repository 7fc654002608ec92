"""Errors that the user can fix; each message is one line and says how. Any other exception is a bug and shows its
traceback.

DeploymentError               one line: the problem, its place, the remedy; exit code 1
  UsageError                  an option or a configuration value is wrong
  DataError                   a parquet file, a data pattern, a feature specification or a dump is wrong
    RowError                  a row has a value that can't be used; it knows the row, the column and the reason
  ModelError                  a checkpoint, a model file or a plug-in module is wrong
    InputError                the model can't take a batch: name, dtype, shape or value
    SizeError                 the model answers the same rows differently in a request of another size
  ConversionError             a format could not be made
    ToleranceError            two models answer differently
  ServerError                 a server can't be started or reached, or lacks a model
    AccessError               the server's certificate can't be trusted, or the server refuses this client
    BackendError              the server has no backend for a model's format
    InferenceError            the server answered a request with an error
      GoneError               it is gone, is stopping, or has no such model at the moment
      RefusedError            it refused the request, because too many wait for an answer
  PerformanceError            a measurement could not be made
  BuildError                  code can't be compiled here
  ContainerError              a container engine or an image is missing, or a container can't be started
  ClusterError                a cluster's scheduler or its workers are missing, or lose the work
  DeviceError                 a GPU is required and missing, or of the wrong kind; or the CPU lacks a precision
  ProcessError                a child process failed; holds both its output streams
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable


class DeploymentError(Exception):
    """Base of these errors. The message is one line: the problem, its place, and the remedy."""


class UsageError(DeploymentError):
    """An option or a configuration value is wrong."""


class DataError(DeploymentError):
    """A parquet file, a data pattern, a feature specification or a dump is wrong."""


class RowError(DataError):
    """A row has a value that can't be used. ``row`` is its number in the file from 0, ``column`` and ``problem`` say
    what is wrong; in an error that has come from another process they are -1 and empty."""

    def __init__(self, message: str, *, row: int = -1, column: str = "", problem: str = "") -> None:
        super().__init__(message)
        self.row = row
        self.column = column
        self.problem = problem


_DATA_ERROR = re.compile(rf"\b(?:{DataError.__name__}|{RowError.__name__}): (.*)")


def data_error_in(text: str) -> DataError | None:
    """The DataError in the text of another error: TensorFlow keeps the text of an error that was raised while it read a
    data set, not the error. None if there is none."""
    found = _DATA_ERROR.search(text)
    return None if found is None else DataError(found[1])


class ModelError(DeploymentError):
    """A checkpoint, a model file or a plug-in module is wrong."""


class InputError(ModelError):
    """The model can't take a batch: a name, dtype, shape or value does not fit its signature."""


class SizeError(ModelError):
    """The model answers the same rows differently in a request of another size."""


class ConversionError(DeploymentError):
    """A format could not be made."""


class ToleranceError(ConversionError):
    """Two models answer differently by more than the stated tolerance."""


class ServerError(DeploymentError):
    """A server can't be started or reached, or it lacks a model."""


class AccessError(ServerError):
    """The server's certificate can't be trusted, or the server refuses this client's certificate or headers."""


class BackendError(ServerError):
    """The server has no backend for a model's format."""


class InferenceError(ServerError):
    """The server answered a request with an error."""


class GoneError(InferenceError):
    """The server is gone, is stopping or starting, or doesn't have the model at the moment: another one, or the same
    one later, may answer."""


class RefusedError(InferenceError):
    """The server refused a request: too many wait for an answer, or this one has waited for the longest time."""


class PerformanceError(DeploymentError):
    """A measurement could not be made."""


class BuildError(DeploymentError):
    """Code can't be compiled here: there is no compiler, or a dependency is missing."""


class ContainerError(DeploymentError):
    """A container engine or an image is missing, or a container can't be started."""


class ClusterError(DeploymentError):
    """The scheduler of a cluster or all its workers are missing, or a task has lost too many of them."""


class DeviceError(DeploymentError):
    """A GPU is required and missing, or of the wrong kind; or the CPU lacks a precision."""


class ProcessError(DeploymentError):
    """A child process exited with an error or ran out of time.

    ``returncode`` is negative for a signal, None for a timeout; ``ending`` says how the child ended; ``stdout`` and
    ``stderr`` are its output.
    """

    def __init__(
        self, message: str, *, returncode: int | None, ending: str = "", stdout: str = "", stderr: str = ""
    ) -> None:
        super().__init__(message)
        self.returncode = returncode
        self.ending = ending
        self.stdout = stdout
        self.stderr = stderr


_OTHER_PLACE = "choose another place"
# Errors of a host rather than of a program, and what helps.
_HOST_REMEDIES = {
    errno.ENOSPC: f"make room or {_OTHER_PLACE}",
    errno.EDQUOT: f"make room or {_OTHER_PLACE}",
    errno.EFBIG: f"{_OTHER_PLACE}, on a file system that holds files of this size",
    errno.EROFS: f"mount it writable or {_OTHER_PLACE}",
    errno.EACCES: f"give this user the permission or {_OTHER_PLACE}",
    errno.EPERM: f"give this user the permission or {_OTHER_PLACE}",
    errno.EIO: f"check the disk or {_OTHER_PLACE}",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: f"{_OTHER_PLACE}, which is not below a file",
    errno.ELOOP: "remove the link that leads back to itself",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)


def host_problem(error: BaseException) -> str | None:
    """Reason and remedy, as one phrase, of an error that the host causes: its disk is full or read-only, a permission
    is missing, a name is too long. None for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    if number not in _HOST_REMEDIES:  # libraries pass on a full disk as text
        number = next((full for full in _FULL if os.strerror(full) in str(error)), None)
    return None if number is None else f"{os.strerror(number)}; {_HOST_REMEDIES[number]}"


def require_at_least(name: str, value: float, least: int) -> None:
    """Raises UsageError if a value is below ``least``; ``name`` is the value's name in the message."""
    if value < least:
        raise UsageError(f"{name} must be at least {least}, not {value}")


def require_within(name: str, value: float, least: int, most: int) -> None:
    """Raises UsageError if a value is outside ``least`` .. ``most``; ``name`` is the value's name in the message."""
    require_at_least(name, value, least)
    if value > most:
        raise UsageError(f"{name} must be at most {most}, not {value}")


def require_options_at_least(options: object, names: Iterable[str], least: int) -> None:
    """``require_at_least`` for fields of an option group, named as on the command line."""
    for name in names:
        require_at_least(f"--{name.replace('_', '-')}", getattr(options, name), least)
