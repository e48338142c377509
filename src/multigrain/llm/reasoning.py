"""What reasoning models write before they answer, taken off."""

from __future__ import annotations

from typing import Final

from multigrain.llm.answers import UnusableAnswer

__all__ = ["REASONING_ADVICE", "without_reasoning"]

REASONING_ADVICE: Final = "switch the model's reasoning off by llm.extra_body, or raise llm.max_tokens"

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"
_ANSWERS_BEGIN: Final = ("{", "[", "```")


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
