"""Free text from a model, without what small models put around it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Final, TypeAlias, TypeVar

from pydantic import BaseModel, StringConstraints

from multigrain.llm.answers import ask, more_room
from multigrain.llm.protocol import Completion, CompletionRequest, LLMClient, UnusableAnswer
from multigrain.llm.reasoning import REASONING_ADVICE, reasoning_marks, thinks_aloud, without_reasoning
from multigrain.synthesis.lead_ins import bare, first_line, without_announcement

Shape = TypeVar("Shape", bound=BaseModel)

Text: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""A text with something in it."""

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


class _OneQuery(BaseModel):
    query: Text


class _OneText(BaseModel):
    text: Text


async def ask_for_query(client: LLMClient, request: CompletionRequest, *, summary: bool = False) -> str:
    """Ask for a query of one line in free text, which is what small models can do and what costs least.

    Free text is never taken as it comes. Where it was cut it is asked for once more, with twice the room; where a stop
    left nothing but an announcement, without the stop; and where it is a model's thoughts, as a field of a JSON object
    and with the request's whole room.

    Args:
        client: the model.
        request: what is asked.
        summary: whether the query is a summary, which has no full stop.

    Raises:
        UnusableAnswer: the model wrote none ("empty"), came to no end ("truncated"), or did nothing but think
            ("reasoning").
    """
    answer = await client.complete(request)
    try:
        return read_query(answer, request, summary=summary)
    except UnusableAnswer as unusable:
        problem = unusable
    if problem.kind == "reasoning":
        text = (await _structured(client, request, answer, _OneQuery)).query
        return read_query(replace(answer, text=text, finish_reason="stop"), request, summary=summary)
    if problem.kind != "truncated" and not (request.stop and answer.finish_reason != "length"):
        raise problem
    stop = request.stop if problem.kind == "truncated" else ()
    again = replace(request, max_tokens=2 * request.max_tokens, stop=stop)
    return read_query(await client.complete(again), request, summary=summary)


async def ask_for_text(client: LLMClient, request: CompletionRequest) -> Completion:
    """Ask for free text of any length; as a field of a JSON object, where a model does nothing but think aloud.

    Returns:
        The answer, whose text is without reasoning and ends before the first of the request's stops.

    Raises:
        UnusableAnswer: the model did nothing but think ("reasoning").
    """
    answer = await client.complete(request)
    try:
        text = _spoken(answer)
        if thinks_aloud(text):
            raise UnusableAnswer("reasoning", f"the answer is the model's thoughts: {REASONING_ADVICE}")
    except UnusableAnswer:
        text = (await _structured(client, request, answer, _OneText)).text
        return replace(answer, text=text, finish_reason="stop")
    whole = without_announcement(text)
    text = _before_stops(whole, request.stop)
    return replace(answer, text=text, finish_reason=answer.finish_reason if text == whole else "stop")


def read_query(answer: Completion, request: CompletionRequest, *, summary: bool = False) -> str:
    """The query in an answer.

    Args:
        answer: free text.
        request: what was asked: where its stops were not kept, the answer ends at them all the same.
        summary: whether the query is a summary, which has no full stop.

    Raises:
        UnusableAnswer: there is none: "empty", "truncated", "reasoning".
    """
    line, whole, passed_over = first_line(_spoken(answer))
    query = _before_stops(line, request.stop)
    prompt = "".join(message.content for message in request.messages)
    for said in (*passed_over, *(bare(line.rstrip(": ")) for line in passed_over), query):
        check_query(said, prompt)
    if not query:
        raise UnusableAnswer("empty", "the model wrote no query")
    if answer.finish_reason == "length" and not whole and query == line:  # half a sentence is a query that nobody has
        raise UnusableAnswer("truncated", f"the query was cut at {max(request.max_tokens, 1)} tokens")
    query = summary_as_query(query) if summary else about_the_subject(query)
    if not query:
        raise UnusableAnswer("empty", "the model wrote no query")
    return query


def check_query(query: str, document: str) -> None:
    """See that a query that a model wrote is one, and not what the model thought about it.

    Args:
        query: as it was written.
        document: what it was written about: it may speak of marks of reasoning itself.

    Raises:
        UnusableAnswer: it is the model's thoughts ("reasoning").
    """
    marks = reasoning_marks(query)
    if thinks_aloud(query) or (marks and marks - reasoning_marks(document)):
        raise UnusableAnswer("reasoning", f"the query is the model's thoughts: {REASONING_ADVICE}")


def clean_line(answer: str) -> str:
    """The first line of an answer that is more than an announcement, without labels, quotes and list marks."""
    return first_line(answer).text


def _spoken(answer: Completion) -> str:
    """The answer behind its reasoning.

    Raises:
        UnusableAnswer: it ends before it has said anything ("reasoning"), or in its reasoning.
    """
    text = without_reasoning(answer.text)
    if not text.strip() and answer.finish_reason == "length":
        raise UnusableAnswer("reasoning", f"the answer was cut before it began: {REASONING_ADVICE}")
    return text


def _before_stops(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of its stops: models that think first are asked without them."""
    for stop in stops:
        text = text.partition(stop)[0]
    return text.rstrip()


async def _structured(client: LLMClient, request: CompletionRequest, answer: Completion, shape: type[Shape]) -> Shape:
    """Ask for one text as a field of a JSON object, with all the room that there is.

    Raises:
        UnusableAnswer: no answer came in that form either ("reasoning").
    """
    roomy = replace(request, stop=(), max_tokens=more_room(request, answer))
    try:
        return await ask(client, roomy, shape)
    except UnusableAnswer as unusable:
        if unusable.kind == "refusal":
            raise
        detail = unusable.detail if unusable.kind == "reasoning" else f"{unusable.detail}: {REASONING_ADVICE}"
        raise UnusableAnswer("reasoning", detail) from None


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
