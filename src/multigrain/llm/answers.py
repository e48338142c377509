"""From a model's text to a validated object. The text is untrusted: it is parsed, never evaluated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn, TypeVar

import json_repair
from pydantic import BaseModel, ValidationError

from multigrain.llm.protocol import CompletionFailure

Shape = TypeVar("Shape", bound=BaseModel)

REASONING_ADVICE: Final = "switch the model's reasoning off by llm.extra_body, or raise llm.max_tokens"

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"
_ANSWERS_BEGIN: Final = ("{", "[", "```")

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


class UnusableAnswer(CompletionFailure):
    """A model answered, but not in a form that can be used. Costs its own row only."""


def without_reasoning(text: str) -> str:
    """The answer without a leading `<think>` block, also of one that the chat template has opened.

    An answer that begins as JSON, or that opens a block after its beginning, speaks of the tags and is left whole.

    Raises:
        UnusableAnswer: the answer ends inside the block ("reasoning").
    """
    start = text.lstrip()
    thought, closed, answer = text.partition(_CLOSE)
    if start.startswith(_OPEN):
        if not closed:
            raise UnusableAnswer("reasoning", f"the answer ends inside its reasoning: {REASONING_ADVICE}")
        return answer.lstrip()
    if not closed or _OPEN in thought or start.startswith(_ANSWERS_BEGIN):
        return text
    return answer.lstrip()


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
