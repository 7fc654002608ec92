"""Answers a dataset by a model on a Triton server: batches + server -> dumps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import DataloaderModule
from deployment_toolkit.dump import DumpOptions, write_predictions
from deployment_toolkit.params import (
    Plugin,
    add_dataclass,
    from_args,
    keywords_for,
    make_parser,
    option,
    parse_with_plugins,
    run_entry_point,
)
from deployment_toolkit.triton_inference_runner.base import open_session


@dataclass(frozen=True)
class TritonOptions:
    """Options of this script beside those of the dump and the dataloader."""

    model_name: str = option("name of the model on the server")
    dataloader: Path = option("module with get_dataloader_fn")
    server_url: str = option("grpc://host:port or http://host:port; without a protocol gRPC", "localhost:8001")
    model_version: str = option("version of the model", "1")
    response_wait_time: float = option("seconds to wait for the answer of the oldest request", 120.0)
    max_unresponded_requests: int = option("requests that may be under way at once", 128)
    synchronous: bool = option("send a request only after the answer to the one before it", False)


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__)
    add_dataclass(parser, TritonOptions)
    add_dataclass(parser, DumpOptions)
    args, modules = parse_with_plugins(parser, argv, [Plugin("dataloader", DataloaderModule, "get_dataloader_fn")])
    options = from_args(TritonOptions, args)
    get_dataloader_fn = modules["dataloader"].get_dataloader_fn
    dataloader_fn = get_dataloader_fn(**keywords_for(get_dataloader_fn, args))
    with open_session(
        options.server_url,
        options.model_name,
        options.model_version,
        synchronous=options.synchronous,
        max_unresponded_requests=options.max_unresponded_requests,
        response_wait_time_s=options.response_wait_time,
    ) as session:
        write_predictions(session, dataloader_fn, from_args(DumpOptions, args))


if __name__ == "__main__":
    run_entry_point(main)
