from __future__ import annotations

import json
from typing import Annotated

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from pydantic import BaseModel, StringConstraints

from multigrain.llm.answers import parse_answer
from multigrain.llm.protocol import UnusableAnswer

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Graded(BaseModel):
    query: Text
    level_4: Text
    level_1: Text


class Scored(BaseModel):
    name: Text
    score: int


GOOD = {"query": "q", "level_4": "near", "level_1": "far"}
WRITTEN = json.dumps(GOOD)


@pytest.mark.parametrize(
    "text",
    [
        WRITTEN,
        f"  {WRITTEN}\n",
        f"```json\n{WRITTEN}\n```",
        f"Sure, here it is:\n```\n{WRITTEN}\n```\nIs there anything else?",
        f"Here you are: {WRITTEN} Enjoy!",
        f"[{WRITTEN}]",
        "{'query': 'q', 'level_4': 'near', 'level_1': 'far',}",
        '{query: "q", "level_4": "near" "level_1": "far"}',
        '{"query": "q", "level_4": "near", "level_1": "far", "more": 1}',
    ],
)
def test_the_object_is_found_and_mended(text: str) -> None:
    assert parse_answer(text, Graded).model_dump() == GOOD


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("The query could be about cats.", "prose"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("As an AI I do not write queries.", "refusal"),
        (WRITTEN[:-12], "truncated"),
        ('{"query": "q"}', "schema"),
        ('{"query": "q", "level_4": "", "level_1": "far"}', "schema"),
        ('{"query": "q", "level_4": null, "level_1": "far"}', "schema"),
        ('{"query": ["q"], "level_4": "near", "level_1": "far"}', "schema"),
        ('{"query": "\\ud800", "level_4": "near", "level_1": "far"}', "schema"),
        (f"[{WRITTEN}, {WRITTEN}]", "schema"),
        ('{"a": ' * 5000 + "1" + "}" * 5000, "schema"),
        ("[" * 100_000 + "{}", "schema"),
        ('{"query": ' + "9" * 6000 + "}", "schema"),
        ("__import__('os').system('true')", "prose"),
    ],
)
def test_what_cannot_be_used_has_a_kind(text: str, kind: str) -> None:
    with pytest.raises(UnusableAnswer) as caught:
        parse_answer(text, Graded)
    assert caught.value.kind == kind
    assert "\n" not in caught.value.detail


def test_a_cut_answer_is_never_mended() -> None:
    cut = '{"query": "q", "level_4": "near", "level_1": "a passage about {braces} and'
    with pytest.raises(UnusableAnswer) as caught:
        parse_answer(cut, Graded, cut=True)
    assert caught.value.kind == "truncated"
    assert parse_answer(WRITTEN, Graded, cut=True).query == "q"  # cut after its end: nothing is missing


def test_numbers_that_json_does_not_know_are_refused() -> None:
    with pytest.raises(UnusableAnswer):
        parse_answer('{"name": "x", "score": NaN}', Scored)


_pieces = [WRITTEN, '{"query": "', '", "level_4": "', '"level_1"', "```json\n", "```", "<|im_end|>", "//", "/*", "\n"]
_words = ["I'm sorry", "__import__('os')", "null", "NaN", "1e999", "query", "{{", "}}", "\\", "\\u12", "\\ud83d"]
_signs = [*"{}[]:,\"'-", "\0", "\ud800", "\u2028", "\N{GRINNING FACE}"]
_scraps = st.sampled_from([*_pieces, *_words, *_signs])
_hostile = st.one_of(
    st.lists(st.one_of(_scraps, st.text(max_size=12)), max_size=25).map("".join),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner, max_size=4),
        max_leaves=12,
    ).map(json.dumps),
    st.tuples(st.integers(0, len(WRITTEN)), st.text(max_size=4), st.integers(0, 6)).map(
        lambda cut: WRITTEN[: cut[0]] + cut[1] + WRITTEN[cut[0] + cut[2] :]
    ),
)


def nothing_gets_in_that_breaks_the_schema(text: str, cut: bool) -> None:
    try:
        answer = parse_answer(text, Graded, cut=cut)
    except UnusableAnswer as failure:
        kind = failure.kind
    else:
        kind = None
    if kind is not None:
        assert kind in {"empty", "prose", "refusal", "truncated", "schema"}
        return
    for value in (answer.query, answer.level_4, answer.level_1):
        assert isinstance(value, str)
        assert value.strip()
        value.encode()  # no half characters: they would break the files that rows go into


@given(_hostile, st.booleans())
@settings(max_examples=400, deadline=None)
def test_hostile_answers(text: str, cut: bool) -> None:
    nothing_gets_in_that_breaks_the_schema(text, cut)


@pytest.mark.slow
@given(_hostile, st.booleans())
@settings(max_examples=20_000, deadline=None)
def test_many_hostile_answers(text: str, cut: bool) -> None:
    nothing_gets_in_that_breaks_the_schema(text, cut)
