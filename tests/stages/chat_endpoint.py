"""A chat endpoint that writes graded rows by rule, and the settings of a small run against it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.loopback import JsonHandler, Loopback

__all__ = ["WORDS", "ChatEndpoint", "graded_answer", "run_values"]

WORDS = [f"w{number}" for number in range(200)]


def graded_answer(body: dict[str, Any]) -> str:
    """A query that quotes the prompt's document, alone or with negatives that are further and further from it."""
    prompt = body["messages"][-1]["content"]
    words = [word for word in prompt.split() if word in WORDS][:6]
    draw = random.Random(prompt)
    fields = {"query": " ".join(words[:4])}
    if "response_format" not in body:
        return fields["query"]
    for level in (1, 2, 3, 4):
        fields[f"level_{level}"] = " ".join(words[: level - 1] + draw.sample(WORDS, 9 - level))
    return json.dumps(fields)


def _embedded(texts: list[str]) -> dict[str, Any]:
    """A vector a text, drawn from it."""
    draws = [random.Random(text) for text in texts]
    data = [{"index": place, "embedding": [draw.gauss(0, 1) for _ in range(8)]} for place, draw in enumerate(draws)]
    return {"data": data, "usage": {"prompt_tokens": sum(len(text.split()) for text in texts)}}


class ChatEndpoint(Loopback):
    """A chat endpoint that says what `answer` says, and remembers every prompt; it embeds too, and remembers that."""

    def __init__(self) -> None:
        self.answer = graded_answer
        self.usage: Callable[[dict[str, Any]], dict[str, int]] = lambda _: {"prompt_tokens": 9, "completion_tokens": 7}
        self.logprobs: Callable[[dict[str, Any]], Any] = lambda _: None
        self.status = 200
        self.delay = 0.0
        self.prompts: list[str] = []
        self.embedded: list[list[str]] = []
        outer = self

        class Handler(JsonHandler):
            protocol_version = "HTTP/1.1"

            def on_post(self) -> None:
                body = json.loads(self.body())
                if self.path.endswith("/embeddings"):
                    outer.embedded.append(body["input"])
                    return self.send(200, _embedded(body["input"]))
                outer.prompts.append(body["messages"][-1]["content"])
                time.sleep(outer.delay)
                message = {"role": "assistant", "content": outer.answer(body) if outer.status == 200 else None}
                choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": outer.logprobs(body)}
                values: dict[str, Any] = {
                    "model": "m",
                    "choices": [choice],
                    "usage": outer.usage(body),
                }
                if outer.status != 200:
                    values = {"error": {"message": "no such key"}}
                return self.send(outer.status, values)

        super().__init__(Handler, "/v1")


def run_values(corpus: Path, model: Path | str, url: str = "", **llm: object) -> dict[str, Any]:
    return {
        "documents": {"path": str(corpus), "validation_share": 0.2, "test_share": 0.3},
        "llm": {"provider": "openai", "model": "m", "base_url": url, "max_retries": 0, **llm},
        "synthesis": {"strategy": "mgh", "query_first": False},  # one completion a row, which tests count
        "audit": {
            "round_trip_rank": None,
            "false_negative_margin": 0.0,
            "min_level_gap": 0.0,
            "max_copied_share": 1.0,
        },
        "training": {
            "base_model": str(model),
            "steps": 4,
            "batch_size": 4,
            "max_seq_length": 32,
            "precision": "float32",
            "learning_rate": 2e-5,  # once, and nothing merged: most tests are of something else
            "merge": None,
            "candidates": {"mean": {}, "ata": {"pooling": "ata"}, "in_batch": {"schedule": "in-batch"}},
        },
        "evaluation": {"bootstrap_samples": 200, "seen_documents": False},
    }
