"""Checks requests with JSON and passes the good ones on to the server; the proxy sends it such requests:
``python -m deployment_toolkit.proxy``."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from aiohttp import ClientError, ClientSession, ClientTimeout, StreamReader, TCPConnector, web
from yarl import URL

from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.proxy.json_check import RefusedRequest, check_request
from deployment_toolkit.proxy.settings import KEY_NAME, KEY_VARIABLE

_HEADER_LENGTH = "Inference-Header-Content-Length"
_HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length"}
_CLIENTS_OWN = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")  # sent only if the client has sent them
_ARRIVAL_S = 30.0
_CONNECT_S = 5.0
_ENDING_S = 1.0


@dataclass(frozen=True)
class CheckOptions:
    """Options of the process."""

    port: int = option("port of loopback at which it listens")
    server_url: str = option("http://host:port of the server")
    json_bytes: int = option("most bytes of JSON in a request")
    timeout_s: float = option("longest time without an answer of the server, seconds")


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, CheckOptions)
    options = from_args(CheckOptions, parser.parse_args(argv))
    asyncio.run(_serve(options, os.environ[KEY_VARIABLE]))


async def _serve(options: CheckOptions, key: str) -> None:
    """Listens until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    # A new connection for each request: one that was kept might be closed at the moment in which it is used again.
    connector = TCPConnector(limit=0, force_close=True)
    timeout = ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=options.timeout_s)
    async with ClientSession(
        connector=connector, timeout=timeout, auto_decompress=False, skip_auto_headers=_CLIENTS_OWN
    ) as session:
        runner = web.ServerRunner(
            web.Server(_Check(options, key, session).answer, access_log=None), shutdown_timeout=_ENDING_S
        )
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, options.port).start()
        await stop.wait()
        await runner.cleanup()


class _Check:
    """Answers the requests that the proxy could not let pass by itself."""

    def __init__(self, options: CheckOptions, key: str, session: ClientSession) -> None:
        self._options, self._key, self._session = options, key, session

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if not secrets.compare_digest(request.headers.get(KEY_NAME, "").encode(), self._key.encode()):
            return _error(403, "only the proxy may ask")
        length = request.content_length or 0
        stated = request.headers.get(_HEADER_LENGTH)
        json_bytes = length if stated is None else int(stated)
        if json_bytes > length:
            return _error(400, f"{_HEADER_LENGTH} is more than the body's length")
        if json_bytes > self._options.json_bytes:
            return _error(413, f"the JSON is too large for the proxy, at most {self._options.json_bytes} bytes pass")
        try:
            async with asyncio.timeout(_ARRIVAL_S):
                text = await request.content.readexactly(json_bytes) if json_bytes else b""
            if stated is None or json_bytes:  # else the body is one tensor without JSON
                check_request(text)
            return await self._passed_on(request, text)
        except RefusedRequest as error:
            return _error(400, str(error))
        except asyncio.IncompleteReadError:
            return _error(400, "the body is shorter than its Content-Length")
        except ClientError as error:
            return _error(502, f"the server closed the connection: {error}")
        except TimeoutError:
            return _error(504, "the request did not arrive, or was not answered, in time")

    async def _passed_on(self, request: web.BaseRequest, text: bytes) -> web.Response:
        url = URL(self._options.server_url + request.raw_path, encoded=True)
        headers = {**_end_to_end(request.headers), "Content-Length": str(request.content_length or 0)}
        body = _joined(text, request.content)
        async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
            return web.Response(status=answer.status, body=await answer.read(), headers=_end_to_end(answer.headers))


async def _joined(text: bytes, rest: StreamReader) -> AsyncIterator[bytes]:
    yield text
    async for part in rest.iter_any():
        yield part


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that are not of one connection only."""
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


if __name__ == "__main__":
    run_entry_point(main)
