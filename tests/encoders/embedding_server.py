"""An embedding endpoint on this machine, as OpenAI's is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sentence_transformers import SentenceTransformer

from .test_encoder import static_model

Answer = tuple[int, Any, dict[str, str]]
MODEL = static_model(0)


class EmbeddingServer:
    """Serves a model; `refuse(number, body)` may answer instead. `bodies` and `headers` are its log."""

    def __init__(self, model: SentenceTransformer = MODEL) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refuse: Callable[[int, dict[str, Any]], Answer | None] = lambda number, body: None
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.bodies)
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers))
                status, answer, headers = outer.refuse(number, body) or (200, embedded(body["input"], model), {})
                raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def model(self) -> str:
        return f"openai:served@{self.url}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def embedded(texts: list[str], model: SentenceTransformer) -> dict[str, Any]:
    vectors = 3 * model.encode(texts, prompt="")  # not normalised, and not in order
    data = [{"index": place, "embedding": vector.tolist()} for place, vector in enumerate(vectors)]
    return {"data": data[::-1], "usage": {"total_tokens": 2 * len(texts)}}
