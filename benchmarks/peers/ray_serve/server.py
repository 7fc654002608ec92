"""Wide & Deep behind Ray Serve with dynamic request batching."""

from __future__ import annotations

import argparse
import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.peers.engine import Engine


class WideDeep:
    """Deployment with rows as records in, float32 probabilities out; one inference per batch of requests."""

    def __init__(self, model: str, threads: int, max_batch_size: int, batch_wait_s: float) -> None:
        self._engine = Engine(Path(model), threads=threads)
        self._pool = ThreadPoolExecutor(1)
        self._answer.set_max_batch_size(max_batch_size)  # type: ignore[attr-defined]
        self._answer.set_batch_wait_timeout_s(batch_wait_s)  # type: ignore[attr-defined]

    async def __call__(self, request: Request) -> Response:
        """Answers an inference request, or a request for readiness."""
        if request.method != "POST":
            return Response()
        return Response(await self._answer(await request.body()), media_type="application/octet-stream")

    @serve.batch
    async def _answer(self, bodies: list[bytes]) -> list[bytes]:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._engine.answer_all, bodies)


def main() -> None:
    """Serves until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", required=True, help="for Ray's files")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--max-batch-size", type=int, required=True)
    parser.add_argument("--batch-timeout-s", type=float, required=True)
    args = parser.parse_args()
    ray.init(
        include_dashboard=False, object_store_memory=100 * 2**20, _temp_dir=args.folder, log_to_driver=False, num_cpus=4
    )
    serve.start(http_options={"host": "127.0.0.1", "port": args.port})
    deployment: Any = serve.deployment(
        WideDeep,
        num_replicas=args.workers,
        max_ongoing_requests=1000,
        logging_config={"enable_access_log": False},
    )
    serve.run(deployment.bind(args.model, args.threads, args.max_batch_size, args.batch_timeout_s))
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
