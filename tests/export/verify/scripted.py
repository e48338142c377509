"""Servers that compute with the real model, rightly or wrongly, behind each of the protocols."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tests.loopback import JsonHandler, Loopback

Vectors = Callable[[list[str], dict[str, Any]], Any]
"""Texts, and the body that they came in, to an array of vectors."""

PAGES: dict[str, Mapping[str, Any]] = {
    "openai": {"/v1/models": {"object": "list", "data": [{"id": "tuned", "max_model_len": 128}]}},
    "tei": {
        "/info": {
            "model_id": "/model",
            "model_dtype": "float32",
            "model_type": {"embedding": {"pooling": "mean"}},
            "max_input_length": 128,
            "version": "1.9.3",
        },
        "/v1/models": {"object": "list", "data": [{"id": "/model"}]},
    },
    "llamacpp": {
        "/props": {"default_generation_settings": {"n_ctx": 512}, "build_info": "b9000"},
        "/v1/models": {"object": "list", "data": [{"id": "tuned.gguf"}]},
    },
    "ollama": {"/api/version": {"version": "0.12.0"}, "/api/tags": {"models": [{"name": "tuned:latest"}]}},
}


def answer(protocol: str, vectors: Any) -> Any:
    """Vectors as a protocol sends them."""
    rows = np.asarray(vectors).tolist()
    if protocol == "tei":
        return rows
    if protocol == "ollama":
        return {"model": "tuned", "embeddings": rows, "prompt_eval_count": 3}
    if protocol == "llamacpp":
        return [{"index": place, "embedding": [row]} for place, row in enumerate(rows)]
    return {"data": [{"index": place, "embedding": row} for place, row in enumerate(rows)]}


class ScriptedServer(Loopback):
    """Answers with the vectors of a function; `refuse(path, body)` may answer (status, content) instead."""

    def __init__(self, vectors: Vectors, protocol: str = "openai") -> None:
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.refuse: Callable[[str, dict[str, Any]], tuple[int, Any] | None] = lambda path, body: None
        outer, pages = self, PAGES[protocol]

        class Handler(JsonHandler):
            def on_get(self) -> None:
                page = outer.refuse(self.path, {}) or (
                    (200, pages[self.path]) if self.path in pages else (404, {"error": "not found"})
                )
                self.send(*page)

            def on_post(self) -> None:
                body = json.loads(self.body())
                outer.bodies.append(body)
                outer.paths.append(self.path)
                texts = body.get("inputs") or body["input"]
                self.send(*(outer.refuse(self.path, body) or (200, answer(protocol, vectors(texts, body)))))

        super().__init__(Handler)
