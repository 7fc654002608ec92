"""Wide & Deep behind FastAPI: a thread that runs the engine, no batching."""

from __future__ import annotations

import argparse
import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.peers.engine import Engine


def make_app(model: Path, threads: int, callers: int) -> FastAPI:
    """Application with rows as records in, float32 probabilities out."""
    engine = Engine(model, threads=threads, callers=callers)
    pool = ThreadPoolExecutor(callers)
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        body = await request.body()
        answer = await asyncio.get_running_loop().run_in_executor(pool, engine.answer, body)
        return Response(answer, media_type="application/octet-stream")

    @app.get("/ready")
    async def ready() -> Response:
        return Response()

    return app


def main() -> None:
    """Serves until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--callers", type=int, required=True)
    args = parser.parse_args()
    app = make_app(args.model, args.threads, args.callers)
    uvicorn.run(
        app, host="127.0.0.1", port=args.port, loop="uvloop", http="httptools", log_level="warning", access_log=False
    )


if __name__ == "__main__":
    main()
