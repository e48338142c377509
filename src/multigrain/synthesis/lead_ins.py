"""What models put around a text that they were asked for: announcements, labels, list marks, quotes, fences."""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

from multigrain.storage.text import text_lines

_MOST_LAYERS: Final = 8
_KIND: Final = (
    r"(?:short|concise|brief|possible|example|suggested|potential|likely|relevant|good|simple|sample|single)"
)
_NOUN: Final = r"(?:search |user |web )?(?:query|queries|question|summary|answer|keywords?)"
_AGREES: Final = r"(?:sure|certainly|of course|absolutely|great|gladly|okay|ok|yes|alright)(?: thing)?"
_OPENS: Final = r"(?:here(?:['’]s| is| are)|below (?:is|are)|the following (?:is|are))"
# "Here's a concise summary of the text", "This is the query that you asked for": it names what was asked for.
_NAMED: Final = (
    rf"(?:{_OPENS}|this is)(?: (?:a|an|the|one|your|my|some|three|six))?(?: (?:{_KIND}|\w+-\w+)){{0,3}} {_NOUN}"
    r"\b[^:\n]{0,80}"
)
_AGREEMENT: Final = re.compile(rf"{_AGREES}(?:[,!]+|[.](?=\s|$))\s*(?=\S|$)", re.IGNORECASE)
_ANNOUNCEMENT: Final = re.compile(rf"(?:{_NAMED}|{_OPENS}(?: [^:\n]{{0,100}})?):(?!\S)\s*", re.IGNORECASE)
_ONLY_ANNOUNCES: Final = re.compile(
    rf"(?:{_AGREES}[,.!:]*|(?:{_AGREES}[,.!:]*\s*)?{_NAMED}[.!]?|(?:{_KIND} )?{_NOUN}[.:]?|.*:)", re.IGNORECASE
)
_LABEL: Final = re.compile(
    rf"(?:(?:(?:the|a|an|one|my|your) )?(?:(?:{_KIND}|one-sentence|one-line|final|long-tail) ){{0,2}}{_NOUN}"
    r"(?: (?:for|of|that|which|could|would|might|is|to|based on)\b[^:\n]{0,60})?"
    r"|message|statement|claim|title|output|response|assistant)\s*:\s*",
    re.IGNORECASE,
)
_BULLET: Final = re.compile(r"(?:[-•–—>]|#{1,6}|\*(?!\S)|(?:1[.)]|\(?[a-z1-9]\))(?=\s))\s*", re.IGNORECASE)
_EMPHASIS: Final = re.compile(r"(\*\*|__|\*|_)(?=\S)(.+?)(?<=\S)\1")
_QUOTES: Final = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "„": "“", "「": "」"}
_FENCE: Final = re.compile(r"```\w*$")
_CODE: Final = re.compile(r"```(?!json|text|txt|markdown|md\b|plain)\w+", re.IGNORECASE)
_FIELDS: Final = ("query", "search_query", "question", "summary", "keywords", "statement", "message", "text", "answer")


class Line(NamedTuple):
    """A line of an answer.

    Attributes:
        text: bare of all that stands around it; empty where no line says anything.
        whole: whether something follows it, so that it was not cut.
        passed_over: the lines before it, which announce it.
    """

    text: str
    whole: bool
    passed_over: tuple[str, ...] = ()


def first_line(answer: str) -> Line:
    """The first line of an answer that says something; one that only announces another is passed over.

    A JSON object stands for its one text.

    Args:
        answer: without reasoning.
    """
    in_object = _one_text(answer)
    if in_object is not None:
        return Line(bare(in_object), True)
    lines = text_lines(answer.strip())
    for number, line in enumerate(lines):
        if _CODE.fullmatch(line.strip()):
            break
        if text := bare(line):
            return Line(text, number < len(lines) - 1, tuple(lines[:number]))
    return Line("", False, tuple(lines))


def bare(line: str) -> str:
    """A line without announcements, labels, list marks, emphasis and quotes; empty where it has nothing else."""
    for _ in range(_MOST_LAYERS):
        before, line = line, line.strip()
        if _FENCE.fullmatch(line) or _ONLY_ANNOUNCES.fullmatch(line):
            return ""
        for mark in (_AGREEMENT, _ANNOUNCEMENT, _LABEL, _BULLET):
            if found := mark.match(line):
                line = line[found.end() :]
        line = _without_emphasis(_without_quotes(line.strip()))
        if line == before:
            break
    return line


def without_announcement(text: str) -> str:
    """A text, of one line or many, without what only announces it, as small models begin nearly every answer."""
    first, _, rest = text.strip().partition("\n")
    if rest.strip() and _ONLY_ANNOUNCES.fullmatch(first.strip().rstrip(":")):
        return without_announcement(rest)
    begin = _AGREEMENT.match(first)
    announced = _ANNOUNCEMENT.match(first, begin.end() if begin else 0)
    return f"{first}\n{rest}"[announced.end() :].strip() if announced else text.strip()


def _without_quotes(line: str) -> str:
    closing = _QUOTES.get(line[:1])
    if closing is None:
        return line if line.count('"') != 1 or not line.endswith('"') else line[:-1].rstrip()
    inner = line[1:].rstrip()
    if inner.rstrip(".").endswith(closing) and closing not in inner.rstrip(".")[:-1]:
        return inner.rstrip(".")[:-1]
    return inner if closing not in inner else line


def _without_emphasis(line: str) -> str:
    """The line without marks around its whole, or around a label at its beginning."""
    marked = _EMPHASIS.match(line)
    if marked is None:
        return line.rstrip("*") if line.count("*") <= 3 and line.endswith("**") else line
    if marked.end() == len(line) or (
        marked[1].startswith("*") and line[: marked.end() + 1].rstrip("*_ ").endswith(":")
    ):
        return marked[2] + line[marked.end() :]
    return line


def _one_text(answer: str) -> str | None:
    """The text of an answer that is a JSON object, or a list, with one; None where it is none."""
    plain = answer.strip()
    fenced = re.fullmatch(r"```\w*\s*\n(.*?)\n?```.*", plain, re.DOTALL)
    plain = fenced[1].strip() if fenced else plain
    if not plain.startswith(("{", "[")):
        return None
    try:
        value: Any = json.JSONDecoder().raw_decode(plain)[0]
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        texts = [value[name] for name in _FIELDS if name in value] or list(value.values())
        value = texts[0] if texts else None
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        value = ", ".join(value) if len(value) > 1 else value[0]
    return " ".join(value.split()) if isinstance(value, str) else None
