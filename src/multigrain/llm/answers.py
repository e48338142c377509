"""Structured answers: ask with a JSON schema, parse what comes back, give the model one chance to correct itself.

A model's text is untrusted: it is parsed, never evaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Final, NoReturn, TypeVar

import json_repair
from pydantic import BaseModel, ValidationError

from multigrain.llm.protocol import Completion, CompletionRequest, LLMClient, Message, UnusableAnswer
from multigrain.llm.reasoning import without_reasoning

Shape = TypeVar("Shape", bound=BaseModel)

_LONGEST_REPAIR: Final = 50_000
_MOST_BRACKETS: Final = 500
"""Repair is quadratic on some broken input: longer or deeper texts than any row of ours are left broken."""

_FENCE: Final = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)```", re.DOTALL)
_REFUSAL: Final = re.compile(
    r"\b(i\s?['’]?a?m sorry|i apologi[sz]e|i can(?:no|['’])t (?:help|assist|provide|fulfil|comply|create|generate)"
    r"|i(?: am|['’]m) (?:unable|not able)|as an ai)\b",
    re.IGNORECASE,
)
_SHOWN_PROBLEMS: Final = 3
_LARGEST_BUDGET: Final = 8192
_NOT_FOR_THE_MODEL: Final = ("title", "default")
_WANTS_ROOM: Final = ("reasoning", "truncated")


async def ask(client: LLMClient, request: CompletionRequest, shape: type[Shape]) -> Shape:
    """The answer of `ask_for` by itself."""
    answer, _ = await ask_for(client, request, shape)
    return answer


async def ask_for(client: LLMClient, request: CompletionRequest, shape: type[Shape]) -> tuple[Shape, Completion]:
    """Ask for an answer of a given shape; gives the completion that holds it too.

    An answer that was cut at the token limit is asked for once more, with twice the limit or with the room that the
    request has for models that think first; one that does not fit is shown to the model once, with what is wrong. So
    a row costs at most three completions. Reasoning before the answer is taken off.

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
        return _parse(completion, request, shape), completion
    except UnusableAnswer as unusable:
        problem = unusable
    if problem.kind in _WANTS_ROOM:
        request = replace(request, max_tokens=more_room(request, completion))
        completion = await client.complete(request)
        try:
            return _parse(completion, request, shape), completion
        except UnusableAnswer as unusable:
            problem = unusable
        if problem.kind in _WANTS_ROOM:
            raise problem
    request = _correction(request, completion, problem)
    completion = await client.complete(request)
    return _parse(completion, request, shape), completion


def more_room(request: CompletionRequest, completion: Completion) -> int:
    """The tokens to ask again with, where an answer had too few: twice as many, or the request's whole room."""
    had = max(request.max_tokens, completion.completion_tokens)
    return max(min(2 * had, _LARGEST_BUDGET), request.room, request.max_tokens)


@cache
def answer_schema(shape: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a shape in the form that strict endpoints want: closed, every property required.

    Worked out once a shape: the same object each time, not to be changed.
    """
    schema = _close(shape.model_json_schema())
    assert isinstance(schema, dict)  # noqa: S101 - a model's schema is an object
    return schema


def parse_answer(text: str, shape: type[Shape], *, cut: bool = False) -> Shape:
    """Find the JSON object in an answer and validate it.

    Code fences and words around the object are tolerated, and small faults in it (quotes, commas, comments)
    are repaired, but never a missing end: a text that was cut is not a text.

    Args:
        text: the whole answer.
        shape: what it must be.
        cut: whether the model was stopped at its token limit.

    Raises:
        UnusableAnswer: with its kind: "empty", "prose", "refusal", "truncated" or "schema".
    """
    if not text.strip():
        raise UnusableAnswer("truncated" if cut else "empty", "the answer is empty")
    try:
        return shape.model_validate_json(text)  # what most answers are; whatever is wrong with others is found below
    except ValidationError:
        pass
    problem = "it is not valid JSON"
    for value in _objects(text, repair=not cut):
        try:
            # Through JSON again: that turns away half characters (lone surrogates), which Python's str would let in.
            return shape.model_validate_json(json.dumps(value, allow_nan=False))
        except ValidationError as error:
            problem = _describe(error)
        except (ValueError, RecursionError):
            problem = "it holds a number or a nesting that JSON does not allow"
    if cut or ("{" in text and "}" not in text[text.index("{") :]):
        raise UnusableAnswer("truncated", "it ends before the JSON object does")
    if "{" not in text:
        refused = _REFUSAL.search(text[:400]) is not None
        raise UnusableAnswer("refusal" if refused else "prose", "it holds no JSON object")
    raise UnusableAnswer("schema", problem)


def _objects(text: str, *, repair: bool) -> Iterator[dict[str, Any]]:
    """JSON objects that the text may be meant as: exact readings first, a repaired one last."""
    candidates = [text, *_FENCE.findall(text)]
    start, end = text.find("{"), text.rfind("}")
    if 0 <= start < end:
        candidates.append(text[start : end + 1])
    for candidate in candidates:
        yield from _only_object(_exact(candidate))
    short = 0 <= start < end < start + _LONGEST_REPAIR
    if repair and short and text.count("{") + text.count("[") <= _MOST_BRACKETS:
        yield from _only_object(_repaired(text[start : end + 1]))


def _exact(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # a number of five thousand digits is a ValueError too
        return None


def _repaired(text: str) -> Any:
    try:
        return json_repair.loads(text, skip_json_loads=True)
    except (ValueError, RecursionError):
        return None


def _only_object(value: Any) -> Iterator[dict[str, Any]]:
    """The value if it is an object, or the one object of a list of one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        yield value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _describe(error: ValidationError) -> str:
    """The first problems, without the values: they may be long, and are the model's own words."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [
        f"{'.'.join(str(part) for part in problem['loc']) or 'the object'}: {problem['msg']}"
        for problem in problems[:_SHOWN_PROBLEMS]
    ]
    return "; ".join(shown)[:300]


def _parse(completion: Completion, request: CompletionRequest, shape: type[Shape]) -> Shape:
    text = request.prefill + without_reasoning(completion.text)
    return parse_answer(text, shape, cut=completion.finish_reason == "length")


def _correction(request: CompletionRequest, completion: Completion, problem: UnusableAnswer) -> CompletionRequest:
    """The same chat, the model's answer, and what was wrong with it."""
    chat = request.messages[:-1] if request.prefill else request.messages
    answer = (request.prefill + without_reasoning(completion.text)).strip() or "(nothing)"
    complaint = f"That answer cannot be used: {problem.detail}. Reply again, with the JSON object and nothing else."
    return replace(request, messages=(*chat, Message("assistant", answer), Message("user", complaint)))


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
