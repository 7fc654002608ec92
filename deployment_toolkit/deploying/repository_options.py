"""The options of what puts models into a server's repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import LoadMethod
from deployment_toolkit.options.params import option


@dataclass(frozen=True)
class RepositoryOptions:
    """Where a model goes and who loads it."""

    model_repository: Path = option("the server's model repository")
    load_model: bool = option("have the server load the model, and ask it for one row", False)
    load_model_timeout_s: float = option("how long loading may take, in seconds", 100.0)
    model_control_mode: LoadMethod = option(
        "explicit: the server is told to load; poll: it looks into its repository", LoadMethod.EXPLICIT
    )
    server_url: str = option("the server, as grpc://host:port or http://host:port", "grpc://localhost:8001")
