"""HTTP servers behind a loopback address: what stands in for endpoints, hubs and sites."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

__all__ = ["JsonHandler", "Loopback"]


class JsonHandler(BaseHTTPRequestHandler):
    """Reads bodies, answers in JSON, and keeps quiet; `on_get` and `on_post` say what is answered."""

    def do_GET(self) -> None:
        self.on_get()

    def do_POST(self) -> None:
        self.on_post()

    def on_get(self) -> None:
        self.send(404, {"error": "not found"})

    def on_post(self) -> None:
        self.body()
        self.send(404, {"error": "not found"})

    def body(self) -> bytes:
        """The body of the request."""
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def send(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
        """Answer with bytes as they are, or with anything else as JSON."""
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        values = {"Content-Type": "application/json", **(headers or {}), "Content-Length": str(len(raw))}
        for name, value in values.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


class Loopback:
    """A server on a port of its own, from its making until `close` or the end of its `with` block.

    Args:
        handler: answers each request.
        path: where below the address the interface begins, as `url` says it.
    """

    def __init__(self, handler: Callable[..., BaseHTTPRequestHandler], path: str = "") -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
