"""A mock of GPUs, of which there is none here: an address that tells a real server's metrics, and with them those that
Triton has of GPUs, by its own names and labels. Only the values are made up."""

from __future__ import annotations

import contextlib
import http.server
import threading
import urllib.request
from collections.abc import Iterator

from deployment_toolkit.machine import LOOPBACK

_GIB = 2**30
UTILIZATION = {"GPU-00000000-0000-0000-0000-000000000000": 0.25, "GPU-00000000-0000-0000-0000-000000000001": 0.75}
_TOTAL_BYTES = dict.fromkeys(UTILIZATION, 80 * _GIB)
_USED_BYTES = {gpu: share * _TOTAL_BYTES[gpu] / 2 for gpu, share in UTILIZATION.items()}
MEMORY = {gpu: _USED_BYTES[gpu] / _TOTAL_BYTES[gpu] for gpu in UTILIZATION}
_METRICS = (
    ("nv_gpu_utilization", "GPU utilization rate [0.0 - 1.0)", UTILIZATION),
    ("nv_gpu_memory_total_bytes", "GPU total memory, in bytes", _TOTAL_BYTES),
    ("nv_gpu_memory_used_bytes", "GPU used memory, in bytes", _USED_BYTES),
)
_PAST_PROXIES = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextlib.contextmanager
def mock_gpus(metrics_url: str) -> Iterator[str]:
    """Yields the address, HOST:PORT, at which a server with these metrics has two GPUs; 502 while it has none."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                with _PAST_PROXIES.open(metrics_url, timeout=10) as response:
                    told = response.read() + _gpu_metrics()
            except OSError as error:
                self.send_error(502, str(error))
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *args: object) -> None:
            """Nothing is logged."""

    with http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"{LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _gpu_metrics() -> bytes:
    lines = []
    for name, meaning, values in _METRICS:
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
        lines += [f'{name}{{gpu_uuid="{gpu}"}} {value:f}' for gpu, value in values.items()]
    return "\n".join([*lines, ""]).encode()
