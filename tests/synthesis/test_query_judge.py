"""The judge of queries: what it turns away, what it keeps, and what hostile answers do to it."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.config import QueryJudgeConfig
from multigrain.engine.local import LocalEngine
from multigrain.llm.scripted import ScriptedLLM
from multigrain.synthesis.query_judge import QueryJudge

NAMES = ("self_contained", "natural", "one_intent", "answered")
PAIR = ("how do I bleed a radiator", "Open the valve with a key until water comes.")


def _judge(answers: list[str], **config: int) -> tuple[list[str], QueryJudge, ScriptedLLM]:
    llm = ScriptedLLM(answers)
    with LocalEngine() as engine:
        judge = QueryJudge(llm, engine, config=QueryJudgeConfig(**config), seed=1)
        problems = judge.problems([PAIR, PAIR])
    return problems, judge, llm


@given(
    scores=st.lists(st.integers(min_value=1, max_value=10), min_size=4, max_size=4),
    least=st.integers(min_value=1, max_value=10),
)
@settings(max_examples=40, deadline=None)
def test_the_lowest_of_the_four_scores_decides(scores: list[int], least: int) -> None:
    problems, judge, llm = _judge([json.dumps(dict(zip(NAMES, scores, strict=True)))], at_least=least)

    assert all(bool(problem) is (min(scores) < least) for problem in problems)
    assert judge.counts.judged == len(llm.requests) == 1  # the same query of the same text is judged once
    assert judge.refused == (min(scores) < least)
    assert PAIR[0] in llm.requests[0].messages[-1].content
    assert PAIR[1] in llm.requests[0].messages[-1].content


@pytest.mark.parametrize("value", [0, 11, -3, 1e9, 5.5, True, "ten", None, [], {"score": 5}])
def test_no_score_outside_the_scale_is_kept(value: object) -> None:
    answer = json.dumps(dict.fromkeys(NAMES, 1) | {"natural": value})
    problems, judge, _ = _judge([answer] * 3)

    assert (problems, judge.counts.judged, judge.counts.failed) == (["", ""], 0, 1)


def test_ten_thousand_hostile_answers_crash_nothing_and_a_query_without_a_judgment_stays() -> None:
    draw = random.Random(13)
    parts = ["{", "}", "[", "]", '"', ":", ",", "\x00", "\ud800", "NaN", "1e999", "-1", "11", *NAMES]
    answers = ["".join(draw.choices(parts, k=draw.randrange(40))) for _ in range(10_000)]
    queries = [(f"query {number}", "text") for number in range(len(answers))]
    llm = ScriptedLLM(answers)
    with LocalEngine() as engine:
        judge = QueryJudge(llm, engine, config=QueryJudgeConfig(at_least=10), seed=1)
        problems = judge.problems(queries)

    assert not any(problems)
    assert judge.counts.failed == len(queries)


def test_a_limit_on_queries_is_kept() -> None:
    llm = ScriptedLLM([json.dumps(dict.fromkeys(NAMES, 1))] * 9)
    with LocalEngine() as engine:
        judge = QueryJudge(llm, engine, config=QueryJudgeConfig(max_queries=2), seed=1)
        problems = judge.problems([(f"q{number}", "text") for number in range(5)])

    assert [bool(problem) for problem in problems] == [True, True, False, False, False]
    assert (judge.counts.judged, judge.counts.over_limit) == (2, 3)
