"""An embedding endpoint on this machine, as OpenAI's is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from sentence_transformers import SentenceTransformer
from tests.loopback import JsonHandler, Loopback

from .test_encoder import static_model

Answer = tuple[int, Any, dict[str, str]]
MODEL = static_model(0)


class EmbeddingServer(Loopback):
    """Serves a model; `refuse(number, body)` may answer instead. `bodies` and `headers` are its log."""

    def __init__(self, model: SentenceTransformer = MODEL) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refuse: Callable[[int, dict[str, Any]], Answer | None] = lambda number, body: None
        outer, lock = self, threading.Lock()

        class Handler(JsonHandler):
            def on_post(self) -> None:
                body = json.loads(self.body())
                with lock:
                    number = len(outer.bodies)
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers))
                self.send(*(outer.refuse(number, body) or (200, embedded(body["input"], model), {})))

        super().__init__(Handler, "/v1")

    @property
    def model(self) -> str:
        return f"openai:served@{self.url}"


def embedded(texts: list[str], model: SentenceTransformer) -> dict[str, Any]:
    vectors = 3 * model.encode(texts, prompt="")  # not normalised, and not in order
    data = [{"index": place, "embedding": vector.tolist()} for place, vector in enumerate(vectors)]
    return {"data": data[::-1], "usage": {"total_tokens": 2 * len(texts)}}
