"""Wide & Deep behind LitServe with batching. LitServe passes annotations to FastAPI unchanged, so they must not be
strings here."""

import argparse
from pathlib import Path
from typing import Annotated

import litserve
from fastapi import Body, Response

from benchmarks.peers.engine import Engine


class WideDeepApi(litserve.LitAPI):
    """API with rows as records in, float32 probabilities out; one inference per batch of requests."""

    def __init__(self, model: Path, threads: int, **options: float) -> None:
        super().__init__(**options)
        self._path, self._threads = model, threads

    def setup(self, device: str) -> None:
        """Loads the engine in the worker."""
        self._engine = Engine(self._path, threads=self._threads)

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]) -> bytes:
        """Returns the body unchanged."""
        return request

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """Returns the bodies of a batch; the engine joins them."""
        return inputs

    def predict(self, bodies: list[bytes]) -> list[bytes]:
        """Returns the answers to a batch."""
        return self._engine.answer_all(bodies)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """Returns one answer per request."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """Returns the answer unchanged."""
        return Response(output, media_type="application/octet-stream")


def main() -> None:
    """Serves until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--max-batch-size", type=int, required=True)
    parser.add_argument("--batch-timeout-s", type=float, required=True)
    args = parser.parse_args()
    api = WideDeepApi(args.model, args.threads, max_batch_size=args.max_batch_size, batch_timeout=args.batch_timeout_s)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=args.workers, fast_queue=True, timeout=120)
    server.run(host="127.0.0.1", port=args.port, generate_client_file=False, log_level="warning", num_api_servers=1)


if __name__ == "__main__":
    main()
