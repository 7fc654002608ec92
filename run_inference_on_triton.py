"""Runs a model on a Triton server on a dataset: batches + server -> dumps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.options.command_line import DATALOADER, read_command_line
from deployment_toolkit.options.params import option, run_entry_point
from deployment_toolkit.rows.dump import DumpOptions, write_predictions
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.triton_inference_runner.base import open_session


@dataclass(frozen=True)
class TritonOptions:
    """Options of this script, in addition to those of the dump and the dataloader."""

    model_name: str = option("name of the model on the server")
    dataloader: Path = option("module with get_dataloader_fn")
    server_url: str = option(
        "grpc://host:port or http://host:port, with TLS grpcs:// or https://; without a protocol gRPC", "localhost:8001"
    )
    model_version: str = option("version of the model", "1")
    response_wait_time: float = option("seconds to wait for the answer of the oldest request", 120.0)
    max_unresponded_requests: int = option("largest number of requests in flight", 128)
    synchronous: bool = option("send a request only after the answer to the one before it", False)
    request_rows: list[int] = option(
        "sizes of the first requests, each sent alone, so that the model runs in this size; the other rows follow in "
        "the dataloader's batches",
        [],
    )


def main(argv: list[str]) -> None:
    command = read_command_line(__doc__, argv, [TritonOptions, AccessOptions, DumpOptions], [DATALOADER])
    options = command.get(TritonOptions)
    url = command.get(AccessOptions).url(options.server_url)
    dataloader_fn = command.call(DATALOADER)
    with open_session(
        url,
        options.model_name,
        options.model_version,
        synchronous=options.synchronous,
        max_unresponded_requests=options.max_unresponded_requests,
        response_wait_time_s=options.response_wait_time,
        request_rows=options.request_rows,
    ) as session:
        write_predictions(session, dataloader_fn, command.get(DumpOptions))


if __name__ == "__main__":
    run_entry_point(main)
