"""Free text from a model, without what small models put around it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Final, TypeAlias

from pydantic import StringConstraints

from multigrain.llm.answers import UnusableAnswer, without_reasoning
from multigrain.llm.protocol import Completion, CompletionRequest, LLMClient

Text: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""A text with something in it."""

_LABEL: Final = re.compile(r"^(?:[-*•\d.)\s]*)(?:(?:search )?query|question|summary|answer)\s*:\s*", re.I)
_SENTENCE_END: Final = re.compile(r"[.!?](?=\s|$)")
# "This text describes a function that …": nobody searches like that, and every row would begin with it.
_ABOUT_THE_TEXT: Final = re.compile(
    r"^(?:this|the|that) (?:\w+ ){0,2}?(?:text|document|documentation|passage|article|paragraph|snippet|section"
    r"|code|script) (?:\w+ly )?(?:is about|is an? (?:description|explanation|summary|overview) of|deals with|describes"
    r"|explains|discusses|provides|presents|outlines|summari[sz]es|introduces|defines|details|shows|covers"
    r"|talks about|highlights|emphasi[sz]es|stresses|states|says|explores|focuses on|concerns)\s+(?:that\s+)?"
    r"(?:(?:a|an|the) (?:(?:brief|short|detailed|clear|concise) )?"
    r"(?:description|explanation|summary|overview|definition|discussion) of\s+)?",
    re.I,
)


async def ask_for_query(client: LLMClient, request: CompletionRequest, *, summary: bool = False) -> str:
    """Ask for a query of one line; once more, with twice the room, where the first answer was cut.

    Args:
        client: the model.
        request: what is asked.
        summary: whether the query is a summary, which has no full stop.

    Raises:
        UnusableAnswer: the model wrote none, or came to no end.
    """
    for attempt in (request, replace(request, max_tokens=2 * request.max_tokens)):
        answer = await client.complete(attempt)
        line = clean_line(without_reasoning(answer.text))
        if answer.finish_reason != "length":
            break
    else:  # half a sentence is a query that nobody has
        raise UnusableAnswer("truncated", f"the query was cut at {attempt.max_tokens} tokens")
    query = summary_as_query(line) if summary else about_the_subject(line)
    if not query:
        raise UnusableAnswer("empty", "the model wrote no query")
    return query


def clean_line(answer: str) -> str:
    """The first line of an answer without labels, quotes and list marks."""
    lines = [line.strip() for line in answer.strip().splitlines() if line.strip()]
    return _LABEL.sub("", lines[0]).strip().strip("\"'`*").strip() if lines else ""


def about_the_subject(query: str) -> str:
    """A query without an opening that speaks of the text instead of its subject."""
    return _ABOUT_THE_TEXT.sub("", query, count=1).strip()


def summary_as_query(summary: str) -> str:
    """A summary without the words that speak of the text instead of its subject, and without its full stop."""
    return about_the_subject(summary).rstrip(".")


def whole_sentences(answer: Completion) -> str:
    """The answer as one paragraph; where it was cut at the token limit, only its whole sentences."""
    text = " ".join(answer.text.split())
    if answer.finish_reason != "length":
        return text
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else ""
