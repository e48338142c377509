"""A deterministic stand-in for a language model: for tests, dry runs and work without a network.

It is public on purpose: whoever builds on multigrain tests with the same fake as we do.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest

Answer: TypeAlias = str | Completion | Exception
"""What a script says to one request: a text, a whole completion (to play truncation), or an error to raise."""

Script: TypeAlias = Iterable[Answer] | Mapping[str, Answer] | Callable[[CompletionRequest], Answer]
"""See `ScriptedLLM`."""

_WORD = re.compile(r"[^\W\d_]{3,}")


class ScriptedLLM:
    """Answers from a script and counts what it is asked. Implements `LLMClient`.

    Args:
        script: a sequence (one answer a call, in order of arrival), a mapping (the answer of the first key that
            occurs in the last message), or a function of the request. None answers plausibly: see
            `plausible_answer`.
        seconds: how long each answer takes.
        name: what `identity` calls it; two scripts under one name share journal entries.

    Attributes:
        requests: every request so far, in order of arrival.
    """

    def __init__(self, script: Script | None = None, *, seconds: float = 0.0, name: str = "plausible") -> None:
        self._script: Script = plausible_answer if script is None else script
        self._sequence = None if callable(self._script) or isinstance(self._script, Mapping) else iter(self._script)
        self._seconds = seconds
        self._name = name
        self._lock = threading.Lock()
        self.requests: list[CompletionRequest] = []

    def __repr__(self) -> str:
        return f"ScriptedLLM(name={self._name!r}, calls={self.calls})"

    @property
    def identity(self) -> str:
        """`scripted:` and the name."""
        return f"scripted:{self._name}"

    @property
    def calls(self) -> int:
        """How many requests were made."""
        return len(self.requests)

    async def complete(self, request: CompletionRequest) -> Completion:
        """Answer from the script.

        Raises:
            CompletionFailure: the script has no answer left, or none for this prompt; or it says so.
            Exception: whatever error the script holds.
        """
        with self._lock:
            self.requests.append(request)
            answer = self._answer(request)
        await asyncio.sleep(self._seconds)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Completion):
            return answer
        words = sum(len(message.content.split()) for message in request.messages)
        return Completion(
            text=answer,
            finish_reason="stop",
            model=self._name,
            prompt_tokens=words,
            completion_tokens=len(answer.split()),
            seconds=self._seconds,
        )

    async def aclose(self) -> None:
        """Nothing to let go of."""

    def _answer(self, request: CompletionRequest) -> Answer:
        if self._sequence is not None:
            return next(self._sequence, CompletionFailure("server_error", "the script has no answer left"))
        if isinstance(self._script, Mapping):
            prompt = request.messages[-1].content
            missing = CompletionFailure("server_error", "the script has no answer for this prompt")
            return next((answer for key, answer in self._script.items() if key in prompt), missing)
        assert callable(self._script)  # noqa: S101 - the two other kinds are dealt with above
        return self._script(request)


def plausible_answer(request: CompletionRequest) -> str:
    """A short text in the prompt's own words or, where a schema is given, JSON that follows it.

    The answer depends on the request alone. Different properties of one schema get different words, so that
    rows pass checks on copies and duplicates; nothing about the text is meaningful.
    """
    prompt = request.messages[-1].content
    words = _WORD.findall(prompt) or ["nothing"]
    salt = f"{request.seed}\x1f{prompt}"
    if request.schema is None:
        return _pick(words, salt, 7)
    return json.dumps(_fill(request.schema, request.schema.get("$defs", {}), words, salt))


def _fill(schema: Mapping[str, Any], definitions: Mapping[str, Any], words: list[str], salt: str) -> Any:
    """A value of a JSON schema: of the kinds that pydantic writes for plain models."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[-1]]
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    if "anyOf" in schema:
        return _fill(schema["anyOf"][0], definitions, words, salt)
    kind = schema.get("type", "string")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _fill(part, definitions, words, f"{salt}.{name}") for name, part in properties.items()}
    if kind == "array":
        count = max(schema.get("maxItems", schema.get("minItems", 1)), 1)
        return [_fill(schema.get("items", {}), definitions, words, f"{salt}.{index}") for index in range(count)]
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    text = _pick(words, salt, 12).ljust(schema.get("minLength", 0), "x")
    return text[: schema.get("maxLength")]


def _pick(words: list[str], salt: str, count: int) -> str:
    """Words from the first half of a prompt, where templates put the document, chosen by a hash."""
    digest = hashlib.sha256(salt.encode("utf-8", "surrogatepass")).digest()
    half = words[: max(len(words) // 2, 1)]
    return " ".join(half[digest[index] * len(half) // 256] for index in range(min(count, len(digest))))
