"""Typed answers: ask with a JSON schema, parse what comes back, give the model one chance to correct itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from multigrain.llm.answers import UnusableAnswer, parse_answer, without_reasoning
from multigrain.llm.protocol import Completion, CompletionRequest, LLMClient, Message

Shape = TypeVar("Shape", bound=BaseModel)

_LARGEST_BUDGET: Final = 8192
_NOT_FOR_THE_MODEL: Final = ("title", "default")
_WANTS_ROOM: Final = ("reasoning", "truncated")


async def ask(client: LLMClient, request: CompletionRequest, shape: type[Shape]) -> Shape:
    """Ask for an answer of a given shape.

    An answer that was cut at the token limit is asked for once more with twice the limit; one that does not fit
    is shown to the model once, with what is wrong. So a row costs at most three completions. Reasoning before the
    answer is taken off.

    Args:
        client: the model.
        request: what is asked; its schema is replaced by the shape's.
        shape: what the answer must be.

    Raises:
        UnusableAnswer: no usable answer, with its kind: "empty", "prose", "refusal", "truncated", "schema" or
            "reasoning".
        CompletionFailure: the request came to nothing.
        LLMError: the model cannot be used at all.
    """
    request = replace(request, schema=answer_schema(shape))
    completion = await client.complete(request)
    try:
        return _parse(completion, request, shape)
    except UnusableAnswer as unusable:
        problem = unusable
    if problem.kind in _WANTS_ROOM:
        larger = min(2 * request.max_tokens, max(_LARGEST_BUDGET, request.max_tokens))
        request = replace(request, max_tokens=larger)
        completion = await client.complete(request)
        try:
            return _parse(completion, request, shape)
        except UnusableAnswer as unusable:
            problem = unusable
        if problem.kind in _WANTS_ROOM:
            raise problem
    request = _correction(request, completion, problem)
    return _parse(await client.complete(request), request, shape)


@cache
def answer_schema(shape: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a shape in the form that strict endpoints want: closed, every property required.

    Worked out once a shape: the same object each time, not to be changed.
    """
    schema = _close(shape.model_json_schema())
    assert isinstance(schema, dict)  # noqa: S101 - a model's schema is an object
    return schema


def _parse(completion: Completion, request: CompletionRequest, shape: type[Shape]) -> Shape:
    text = request.prefill + without_reasoning(completion.text)
    return parse_answer(text, shape, cut=completion.finish_reason == "length")


def _correction(request: CompletionRequest, completion: Completion, problem: UnusableAnswer) -> CompletionRequest:
    """The same chat, the model's answer, and what was wrong with it."""
    asked = request.messages[:-1] if request.prefill else request.messages
    answer = (request.prefill + without_reasoning(completion.text)).strip() or "(nothing)"
    wanted = f"That answer cannot be used: {problem.detail}. Reply again, with the JSON object and nothing else."
    return replace(request, messages=(*asked, Message("assistant", answer), Message("user", wanted)))


def _close(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_close(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {
        # Under "properties" and "$defs" the keys are names, and a field may well be called "title".
        key: {name: _close(part) for name, part in value.items()} if key in ("properties", "$defs") else _close(value)
        for key, value in schema.items()
        if key not in _NOT_FOR_THE_MODEL
    }
    if closed.get("type") == "object" and "properties" in closed:
        closed["required"] = list(closed["properties"])
        closed["additionalProperties"] = False
    return closed
