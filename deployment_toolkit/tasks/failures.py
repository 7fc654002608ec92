"""Errors of tasks on their way from a worker to the program that waits for it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deployment_toolkit.errors import DataError, DeploymentError, ProcessError, host_problem


@dataclass(frozen=True)
class TaskFailure:
    """An error that the user can fix, on its way from a worker. It has the class's name and the text alone, because
    an exception of several arguments can't be unpickled."""

    kind: type[DeploymentError]
    message: str
    host: str

    def error(self) -> DeploymentError:
        """The error, with the name of the worker's host if that is another one."""
        kind = DeploymentError if issubclass(self.kind, ProcessError) else self.kind
        where = "" if self.host == socket.gethostname() else f"on {self.host}: "
        return kind(f"{where}{self.message}")


def called(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Runs in a worker: the function's result, or an error that the user can fix as a TaskFailure; bugs are raised."""
    try:
        return function(*args)
    except DeploymentError as error:
        return TaskFailure(type(error), str(error), socket.gethostname())
    except OSError as error:
        problem = host_problem(error)
        if problem is None:
            raise
        place = "" if error.filename is None else f"{error.filename} can't be used: "
        return TaskFailure(DataError, f"{place}{problem}", socket.gethostname())
