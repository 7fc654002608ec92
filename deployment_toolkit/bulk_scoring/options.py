"""Options of bulk scoring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import Format
from deployment_toolkit.errors import UsageError, require_at_least, require_options_at_least
from deployment_toolkit.options.params import option


@dataclass(frozen=True)
class ScoringOptions:
    """What is scored by what. Raises UsageError for a model that is named neither as a file nor on servers, or as
    both."""

    dataloader: Path = option("module with get_dataloader_fn")
    output_dir: Path = option("folder of the parts; an unfinished one goes on")
    input_path: Path | None = option("stored model, or module with get_model, for an engine in each worker", None)
    input_type: Format | None = option("format of the model; tf-trt and trt need a GPU", None)
    threads: int | None = option(
        "threads of one inference on a CPU; default: the runtime's choice, with --n-workers an equal share of the "
        "cores",
        None,
    )
    server_url: list[str] = option(
        "servers to ask in place of an engine: grpc://host:port or http://host:port, with TLS grpcs:// or https://",
        [],
        nargs="+",
        unique=True,
    )
    model_name: str | None = option("name of the model on the servers", None)
    model_version: str = option("version of the model on the servers", "1")
    max_unresponded_requests: int = option("largest number of requests in flight, for each part that is scored", 4)
    response_wait_time: float = option("seconds to wait for the answer of the oldest request", 120.0)
    server_patience: float = option("seconds without an answer of any server after which scoring ends", 120.0)
    rows_per_part: int = option("largest number of rows of a part", 1_048_576)
    columns: list[str] = option("inputs that the parts carry too", [], nargs="+", unique=True)
    max_bad_rows: int = option(
        "rows that may be left out because they can't be scored; they are written to the folder rejected/", 0
    )
    force: bool = option("begin anew: what an earlier command has scored there is removed", False)

    def __post_init__(self) -> None:
        require_options_at_least(self, ("rows_per_part", "max_unresponded_requests"), 1)
        require_options_at_least(self, ("max_bad_rows",), 0)
        if self.threads is not None:
            require_at_least("--threads", self.threads, 1)
        for name in ("response_wait_time", "server_patience"):
            if getattr(self, name) <= 0:
                raise UsageError(f"--{name.replace('_', '-')} has to be above 0, not {getattr(self, name):g}")
        here = [self.input_path, self.input_type]
        if self.server_url and (any(here) or self.threads):
            raise UsageError("--server-url asks servers: leave out --input-path, --input-type and --threads")
        if self.server_url and not self.model_name:
            raise UsageError("--server-url needs --model-name: the model's name on the servers")
        if not self.server_url and (self.model_name or not all(here)):
            raise UsageError("name the model: --input-path and --input-type, or --server-url and --model-name")
