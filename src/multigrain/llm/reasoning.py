"""What models think aloud before they answer: told apart from the answer, and taken off.

A model's family decides how it marks its thoughts; a chat template that has opened them already leaves only the
closing mark in the answer, and an endpoint that stops at the end of a line leaves not even that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from multigrain.llm.protocol import UnusableAnswer

REASONING_ADVICE: Final = "switch the model's reasoning off by llm.extra_body, or raise llm.max_tokens"


@dataclass(frozen=True, slots=True)
class _Marks:
    """How a family of models marks its thoughts.

    Attributes:
        opening: found at an answer's beginning.
        closing: what ends them; the answer begins behind it.
        alone: whether the closing mark says enough where the opening one is missing.
    """

    opening: re.Pattern[str]
    closing: re.Pattern[str]
    alone: bool = True


def _marks(opening: str, closing: str, *, alone: bool = True) -> _Marks:
    return _Marks(re.compile(opening, re.IGNORECASE), re.compile(closing, re.IGNORECASE), alone)


_NAMES: Final = r"(?:think(?:ing|_fast|_faster)?|thoughts?|reason(?:ing)?|reflection|scratchpad|seed:think|seed:cot)"
_MARKS: Final = (
    # DeepSeek, Qwen, GLM, SmolLM3, MiniMax, Nemotron, OLMo, Phi, EXAONE, ERNIE, Hunyuan, Seed-OSS, K2, …
    _marks(rf"<{_NAMES}>", rf"</{_NAMES}>"),
    _marks(r"\[THINK\]", r"\[/THINK\]"),  # Magistral
    _marks(r"◁think▷", r"◁/think▷"),  # Kimi
    _marks(r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # OpenThinker, Sky-T1
    _marks(r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Command A
    _marks(r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),  # Apertus
    _marks(r"<\|channel>\s*(?:thought|thinking|analysis)\b", r"<channel\|>"),  # Gemma 4
    _marks(r"<\|think\|>", r"<\|/think\|>|<\|end\|>\s*(?:<\|begin\|>\s*assistant\s*)?<\|content\|>"),  # Solar
    # gpt-oss: harmony's channels; and what is left of them where the special tokens are not shown.
    _marks(
        r"(?:<\|start\|>\s*assistant\s*)?<\|channel\|>\s*(?:analysis|commentary)\b",
        r"<\|channel\|>\s*final\b[^\n<]*(?:<\|constrain\|>\s*\w+\s*)?<\|message\|>",
    ),
    _marks(r"(?-i:analysis(?=[A-Z\"'“]))", r"(?-i:assistant\s*final(?=\S))", alone=False),
    _marks(r"here(?:'s|’s| is) my thought process:", r"here(?:'s|’s| is) my response:"),  # Granite
    _marks(r"thinking\.\.\.\s*(?:\n|$)", r"\.\.\.done thinking\.", alone=False),  # Ollama
)
_ANSWERS_BEGIN: Final = ("{", "[", "```")
_WRAPPED: Final = re.compile(
    r"\s*(?:<(?P<name>answer|response|output|final_answer|solution)>|<\|begin_of_solution\|>|<\|START_(?:RESPONSE|TEXT)\|>"
    r"|(?:<\|start\|>\s*assistant\s*)?<\|channel\|>\s*final\b[^\n<]*(?:<\|constrain\|>\s*\w+\s*)?<\|message\|>)",
    re.IGNORECASE,
)
_UNWRAPPED: Final = re.compile(
    r"</(?:answer|response|output|final_answer|solution)>|<\|end_of_solution\|>|<\|END_(?:RESPONSE|TEXT)\|>",
    re.IGNORECASE,
)
_TURN_ENDS: Final = re.compile(
    r"(?:<\|(?:im_end|eot_id|end|return|endoftext|end_of_text|END_OF_TURN_TOKEN)\|>|<end_of_turn>|<turn\|>|</s>)"
    r"(?=\s*(?:$|\n|<))"
)

# Thoughts without any mark are told by what they are about: the user, the task and the text, which no query names.
_STARTERS: Final = (
    r"(?:(?:okay|ok|alright|all right|hmm+|hm|wait|well|so|right|now|first(?:ly)?|got it|to begin)[,.:;!… -]+){0,3}"
)
_OUR_WORDS: Final = (
    r"(?:search (?:quer(?:y|ies)|terms?)|keywords?|the user|one (?:line|sentence)"
    r"|(?:short|possible|good|suitable|natural|single|concise|long-tail) (?:quer(?:y|ies)|question|summary|statement)"
    r"|(?:the|this) (?:given |provided |above )?(?:text|document|passage|article|snippet|docstring|documentation)"
    r"|(?:some(?:one|body)|a person|people|users?) (?:who|would|might|may|could)"
    r"|quer(?:y|ies) (?:that|for|someone|somebody))\b"
)
_ANY_QUERY: Final = r"(?:(?:quer(?:y|ies)|question|summary|statement|message)\b|me to\b)"
_DO: Final = (
    r"(?:write|generate|produce|create|come up with|formulate|craft|output|think (?:about|of)|find|summari[sz]e"
    r"|extract|figure out|identify|answer|provide|give|respond|reply|understand|read|look at|analy[sz]e|make|focus"
    r"|imagine)\b"
)
_ALOUD: Final = tuple(
    re.compile(rf"\W*{opening}", re.IGNORECASE | re.DOTALL)
    for opening in (
        r"(?:okay|ok|alright|all right|hmm+|hm|wait)[,.…!]+\s+"
        r"(?:so\b|let\b|the (?:user|text|document|passage|article|task|query|question)|i\b|we\b|first|this|now)",
        rf"{_STARTERS}the user(?:['’]s (?:request|query|question|instruction|prompt)| (?:wants|is asking|asks|asked"
        rf"|needs|has asked|has given|has provided|gave|provided|would like|requests|requested|expects))\b.{{0,100}}?"
        rf"(?:{_OUR_WORDS}|{_ANY_QUERY})",
        rf"{_STARTERS}(?:i|we)(?:['’](?:ll|m))? (?:(?:will|need to|have to|should|must|can|want to|am going to"
        rf"|going to|would|could|just|also|then|first) ){{0,3}}{_DO}.{{0,80}}?{_OUR_WORDS}",
        rf"{_STARTERS}let me (?:think|see|start|read|re-?read|analy[sz]e|break|look|consider|try|figure|understand"
        r"|craft|summari[sz]e|come up)\b",
        rf"{_STARTERS}let['’]s (?:think|see\b|break (?:it|this|the)|analy[sz]e|consider|craft|look at|parse the)",
        rf"{_STARTERS}(?:we|i)(?:['’](?:re|m|ve been)| are| am| have been| was| were) (?:given|asked|told|tasked)\b",
        rf"{_STARTERS}(?:the|my|our) (?:task|goal|job|instruction|request|prompt)(?: here)? (?:is|asks|says|wants"
        rf"|requires)\b.{{0,60}}?(?:{_OUR_WORDS}|quer(?:y|ies)\b|question\b)",
        rf"{_STARTERS}the (?:search )?query (?:should|must|needs to|could|might|has to) (?:be|have|capture|include)\b",
        r"(?:thinking|thought|reasoning) process\b",
        r"(?:thinking|thoughts?|reasoning|chain of thought)\W{0,3}(?::|\n)",
        r"(?:好的?|嗯|首先|那么)[，,。].{0,30}?(?:用户|我|需要|问题)",
        r"用户(?:想|要|希望|让|需要|给|的问题|请)",
    )
)


def without_reasoning(text: str) -> str:
    """The answer without what was thought aloud before it, by the marks of every family.

    A template may have opened the block already, so that its closing mark stands alone.
    An answer that begins as JSON, or that opens a block after its beginning, speaks of the marks and is left whole.
    Tags around the answer itself and marks of the turn's end go too.

    Raises:
        UnusableAnswer: the answer ends inside its reasoning ("reasoning").
    """
    answer = text
    while (rest := _behind_one(answer)) is not None:
        answer = rest
    if wrapped := _WRAPPED.match(answer):
        answer = _UNWRAPPED.split(answer[wrapped.end() :], maxsplit=1)[0].strip()
    if answer.lstrip().startswith("{"):
        return answer
    end = _TURN_ENDS.search(answer)
    return answer[: end.start()].rstrip() if end else answer


def thinks_aloud(text: str) -> bool:
    """Whether a text opens as a model's thoughts about what it was asked to do, with a mark or without any."""
    start = text.lstrip()
    return any(marks.opening.match(start) for marks in _MARKS) or any(aloud.match(start) for aloud in _ALOUD)


def reasoning_marks(text: str) -> frozenset[str]:
    """The marks of reasoning, opening and closing, that a text has anywhere, in lower case."""
    found = (
        match[0].strip().casefold()
        for marks in _MARKS
        if marks.alone
        for mark in (marks.opening, marks.closing)
        for match in mark.finditer(text)
    )
    return frozenset(found)


def _behind_one(text: str) -> str | None:
    """What stands behind the first block of reasoning; None where the text begins with none."""
    start = text.lstrip()
    for marks in _MARKS:
        if opening := marks.opening.match(start):
            end = _end(marks, start, opening.end())
            if end is None:
                raise UnusableAnswer("reasoning", f"the answer ends inside its reasoning: {REASONING_ADVICE}")
            return start[end:].lstrip()
    if start.startswith(_ANSWERS_BEGIN):
        return None
    closings = [closing for marks in _MARKS if marks.alone and (closing := marks.closing.search(text))]
    first = min(closings, key=re.Match.start, default=None)
    if first is None or any(marks.opening.search(text, 0, first.start()) for marks in _MARKS if marks.alone):
        return None
    return text[first.end() :].lstrip()


def _end(marks: _Marks, text: str, begin: int) -> int | None:
    """Where a block that has been opened ends: blocks inside it are closed first, as far as there are closings."""
    depth, last = 1, None
    for closing in marks.closing.finditer(text, begin):
        depth += len(marks.opening.findall(text, begin, closing.start())) - 1
        begin = last = closing.end()
        if depth <= 0:
            break
    return last
