"""The client over HTTP on connections that behave as the real server's rarely do, for which a listener stands here."""

from __future__ import annotations

import queue
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import numpy as np

from deployment_toolkit.capacity.http_client import HttpClient
from deployment_toolkit.server_access.url import ServerUrl

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}\n"
WAIT_S = 30.0


def request_size(connection: socket.socket) -> int:
    """Bytes of one request, read from its connection; 0 at the connection's end."""
    data, size = b"", 1
    while len(data) < size:
        piece = connection.recv(1 << 20)
        if not piece:
            return 0
        data += piece
        head, end, _ = data.partition(b"\r\n\r\n")
        found = re.search(rb"\r\nContent-Length: (\d+)", head)
        size = len(head) + len(end) + int(found[1]) if end and found else len(data) + 1
    return size


@contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[ServerUrl]:
    """URL of a listener that gives each connection to ``serve`` in a thread of its own."""

    def accept() -> None:
        while True:
            try:
                connection, _ = opened.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as opened:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield ServerUrl.parse(f"http://127.0.0.1:{opened.getsockname()[1]}")
        finally:
            opened.shutdown(socket.SHUT_RDWR)


def ends(url: ServerUrl, rows: int, tokens: range) -> dict[int, str]:
    """Messages of the requests' ends, by token; each is sent when the one before has ended."""
    told: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
    found = {}
    with closing(HttpClient(url, "model", "1")) as client:
        client.ended = lambda token, message: told.put((token, message))
        client.prepare([{"x": np.zeros((rows, 1), np.float32)}])
        client.connect(1)
        for token in tokens:
            client.send(0, token)
            ended, message = told.get(timeout=WAIT_S)
            found[ended] = message
    return found


def test_request_on_a_connection_that_the_server_has_just_closed_is_sent_again() -> None:
    def answer_once(connection: socket.socket) -> None:
        with connection:
            if request_size(connection):
                connection.sendall(ANSWER)

    with listener(answer_once) as url:
        assert ends(url, 1, range(200)) == dict.fromkeys(range(200), "")


def test_request_larger_than_the_connections_buffer_is_sent_whole() -> None:
    sizes = []

    def answer_all(connection: socket.socket) -> None:
        with connection:
            while size := request_size(connection):
                sizes.append(size)
                for part in (ANSWER[:20], ANSWER[20:]):
                    connection.sendall(part)

    rows = 4_000_000
    with listener(answer_all) as url:
        assert ends(url, rows, range(3)) == dict.fromkeys(range(3), "")
    assert len(sizes) == 3 and min(sizes) > 4 * rows


def test_errors_are_told() -> None:
    def refuse(connection: socket.socket) -> None:
        with connection:
            while request_size(connection):
                connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nfull")

    def in_chunks(connection: socket.socket) -> None:
        with connection:
            if request_size(connection):
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")

    with listener(refuse) as url:
        assert ends(url, 1, range(2)) == {0: "status 503: full", 1: "status 503: full"}
    with listener(in_chunks) as url:
        assert "measure over grpc://" in ends(url, 1, range(1))[0]
    with listener(lambda connection: connection.close()) as url:
        (message,) = ends(url, 1, range(1)).values()
        assert "closed the connection" in message or "reset by peer" in message
