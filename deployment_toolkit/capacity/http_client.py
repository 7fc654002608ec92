"""Load over HTTP with little work per request: the bytes of each request are made before, a connection carries one
request at a time, and one thread reads all answers.

An answer's tensors are not read: the correctness of a model is checked elsewhere. On a CPU of 2026 a request of one row
costs this client some 50 microseconds, ``tritonclient`` several times as much.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from deployment_toolkit.capacity.client import Ended, nobody
from deployment_toolkit.core import Arrays
from deployment_toolkit.errors import ServerError
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.http import request_body

_CONNECT_TIMEOUT_S = 10.0
_CLOSE_PATIENCE_S = 5.0
_POLL_S = 0.2
_BETWEEN_CONNECTIONS_S = 0.0005
_MOST_TRIES = 3
_PIECE = 1 << 16
_HEAD_END = b"\r\n\r\n"
_MOST_MESSAGE = 500
_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(eq=False)
class _Connection:
    """A connection and the request that it carries; ``unsent`` is what did not fit into its buffer yet."""

    socket: socket.socket
    position: int = 0
    token: int | None = None
    tries: int = 0  # connections that were lost before this one answered its request
    is_gone: bool = False
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    answer: bytes = b""
    lock: threading.Lock = field(default_factory=threading.Lock)


class HttpClient:
    """Client over HTTP/1.1. Raises UsageError if a file of its access can't be used."""

    # Triton's front end (2.51) hands each answer to the thread of its connection through a socket of 277 places, and
    # loses those that find it full.
    most_in_flight = 256

    def __init__(self, url: ServerUrl, model_name: str, model_version: str) -> None:
        self.ended: Ended = nobody
        self._url = url
        self._path = f"/v2/models/{model_name}/versions/{model_version}/infer"
        self._tls = url.access.context() if url.secure else None
        self._requests: list[bytes] = []
        self._connections: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self._is_open = True
        self._poll = select.epoll()
        self._thread = threading.Thread(target=self._read_answers, name="answers", daemon=True)
        self._thread.start()

    def prepare(self, requests: Sequence[Arrays]) -> None:
        """Makes these the requests that ``send`` knows by their positions."""
        self._requests = [self._message(x) for x in requests]

    def connect(self, number: int) -> None:
        """Opens connections until there are so many. Raises ServerError if the server can't be reached."""
        try:
            while len(self._connections) < min(number, self.most_in_flight):
                self._idle.append(self._open())
                time.sleep(_BETWEEN_CONNECTIONS_S)
        except OSError as error:
            raise ServerError(f"no connection to the server at {self._url}: {error}: is it started there?") from error

    def send(self, position: int, token: int) -> None:
        """Sends a prepared request without waiting for its answer."""
        while True:
            try:
                connection = self._idle.pop() if self._idle else self._open()
            except IndexError:  # the reading thread has just taken the last one away
                continue
            except OSError as error:
                self.ended(token, f"no connection to the server: {error}")
                return
            with connection.lock:
                if connection.is_gone:
                    continue
                connection.position, connection.token, connection.tries = position, token, 0
            self._write(connection, memoryview(self._requests[position]))
            return

    def close(self) -> None:
        """Waits a short time for what is in flight, and closes the connections."""
        deadline = time.monotonic() + _CLOSE_PATIENCE_S
        while time.monotonic() < deadline and any(item.token is not None for item in [*self._connections.values()]):
            time.sleep(0.01)
        self._is_open = False
        self._thread.join()
        for connection in self._connections.values():
            connection.socket.close()
        self._poll.close()

    def _message(self, x: Arrays) -> bytes:
        body, json_size = request_body(x)
        headers = {
            "Host": self._url.address,
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(json_size),
            "Content-Length": str(len(body)),
            **self._url.access.headers,
        }
        lines = [f"POST {self._path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode("ascii") + _HEAD_END + body

    def _open(self) -> _Connection:
        plain = socket.create_connection((self._url.host, self._url.port), _CONNECT_TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened = self._tls.wrap_socket(plain, server_hostname=self._url.host) if self._tls else plain
        opened.setblocking(False)
        connection = _Connection(opened)
        self._connections[opened.fileno()] = connection
        self._poll.register(opened.fileno(), select.EPOLLIN)
        return connection

    def _write(self, connection: _Connection, data: memoryview) -> None:
        """Writes what fits into the connection's buffer; the reading thread writes the rest."""
        with connection.lock:
            try:
                sent = connection.socket.send(data)
            except _NOT_YET:
                sent = 0
            except OSError:
                return  # the reading thread meets the same error
            connection.unsent = data[sent:]
            with contextlib.suppress(OSError, ValueError):  # the reading thread has just closed it
                if connection.unsent:
                    self._poll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
                elif sent < len(self._requests[connection.position]):
                    self._poll.modify(connection.socket.fileno(), select.EPOLLIN)

    def _read_answers(self) -> None:
        while self._is_open:
            for number, event in self._poll.poll(_POLL_S):
                connection = self._connections[number]
                if event & select.EPOLLOUT and connection.unsent:
                    self._write(connection, connection.unsent)
                if event & ~select.EPOLLOUT:
                    self._read(connection)

    def _read(self, connection: _Connection) -> None:
        while True:
            try:
                with connection.lock:
                    piece = connection.socket.recv(_PIECE)
            except _NOT_YET:
                return
            except OSError as error:
                self._lost(connection, str(error))
                return
            if not piece:
                self._lost(connection, "the server closed the connection")
                return
            connection.answer += piece
            if self._is_whole(connection):
                return

    def _is_whole(self, connection: _Connection) -> bool:
        """Ends the request if its answer is whole."""
        answer = connection.answer
        head_size = answer.find(_HEAD_END)
        if head_size < 0:
            return False
        head = answer[:head_size].lower()
        try:
            status = int(head[9:12])
            size = int(head.partition(b"\ncontent-length:")[2].partition(b"\r")[0])
        except ValueError:
            self._lost(connection, "the answer's length is not in its head: measure over grpc://", again=False)
            return True
        body_at = head_size + len(_HEAD_END)
        if len(answer) < body_at + size:
            return False
        token, connection.token = connection.token, None
        connection.answer = b""
        if b"\nconnection: close" in head:
            self._forget(connection)
        else:
            self._idle.append(connection)
        if token is not None:
            text = answer[body_at : body_at + _MOST_MESSAGE].decode(errors="replace")
            self.ended(token, "" if status == 200 else f"status {status}: {text}")
        return True

    def _lost(self, connection: _Connection, reason: str, *, again: bool = True) -> None:
        """A connection is gone. The server may close one that waits for its next request just as it comes, and Triton's
        front end some of many new ones (2.51). A request without a byte of an answer is sent again."""
        with connection.lock:
            connection.is_gone = True
            token, connection.token = connection.token, None
        self._forget(connection)
        if token is None:
            with contextlib.suppress(ValueError):
                self._idle.remove(connection)
        elif again and connection.tries < _MOST_TRIES and not connection.answer:
            try:
                fresh = self._open()
            except OSError as error:
                self.ended(token, f"no connection to the server: {error}")
                return
            fresh.position, fresh.token, fresh.tries = connection.position, token, connection.tries + 1
            self._write(fresh, memoryview(self._requests[fresh.position]))
        else:
            self.ended(token, reason)

    def _forget(self, connection: _Connection) -> None:
        del self._connections[connection.socket.fileno()]
        connection.socket.close()
