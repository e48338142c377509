from __future__ import annotations

import asyncio
import json
from typing import get_args

import jinja2
import pytest

from multigrain.config import LLMConfig, QueryType, SynthesisConfig
from multigrain.engine.local import LocalEngine
from multigrain.llm.protocol import Completion, CompletionRequest, UnusableAnswer
from multigrain.llm.scripted import ScriptedLLM
from multigrain.records import LEVELS, Document
from multigrain.synthesis.attributes import Attributes
from multigrain.synthesis.heldout import write_heldout_queries
from multigrain.synthesis.plain_text import about_the_subject, clean_line, summary_as_query
from multigrain.synthesis.prompts import Prompts
from multigrain.synthesis.strategies.one_call import MghStrategy
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.stepwise import StepwiseStrategy
from multigrain.synthesis.synthesize import build_strategy, synthesize
from multigrain.synthesis.units import writing_units

render = Prompts().render
DOCUMENT = Document("d1", "The valve closes when the pressure rises above its set point.")
FIELDS = {
    "query": "when does the valve close",
    "positive": "It closes above the set point.",
    "level_4": "The valve opens when the pressure falls.",
    "level_3": "Valves are made of brass or steel.",
    "level_2": "Pumps move water through pipes.",
    "level_1": "The choir sings on Sundays.",
}


def test_mgh_asks_once_and_reads_all_levels() -> None:
    llm = ScriptedLLM([json.dumps(FIELDS)])

    row = asyncio.run(MghStrategy().write(WritingUnit(DOCUMENT), llm))

    assert llm.calls == 1
    assert (row.query, row.positive, row.document_id) == (FIELDS["query"], DOCUMENT.text, "d1")
    assert row.negatives == {level: FIELDS[f"level_{int(level)}"] for level in LEVELS}


def test_mgh_can_have_the_positive_written_too() -> None:
    llm = ScriptedLLM([json.dumps(FIELDS)])

    row = asyncio.run(MghStrategy(write_positive=True).write(WritingUnit(DOCUMENT), llm))

    assert row.positive == FIELDS["positive"]
    schema = llm.requests[0].schema
    assert schema is not None
    assert set(schema["required"]) == set(FIELDS)


@pytest.mark.parametrize("name", ["mgh", "hybrid", "single"])
def test_the_query_comes_first_in_a_call_of_its_own(name: str) -> None:
    llm = ScriptedLLM(["when does the valve close", json.dumps(FIELDS)])
    first = build_strategy(SynthesisConfig(strategy=name), LLMConfig(), seed=1)

    row = asyncio.run(first.write(WritingUnit(DOCUMENT), llm))

    alone, graded = llm.requests
    assert alone.schema is None
    assert graded.schema is not None
    assert "query" not in graded.schema["properties"]
    assert FIELDS["query"] in graded.messages[-1].content
    assert (row.query, row.positive) == (FIELDS["query"], DOCUMENT.text)
    assert row.negatives == {level: FIELDS[f"level_{int(level)}"] for level in row.negatives}
    together = build_strategy(SynthesisConfig(strategy=name, query_first=False), LLMConfig(), seed=1)
    assert row.id == asyncio.run(together.write(WritingUnit(DOCUMENT), ScriptedLLM([json.dumps(FIELDS)]))).id


def test_a_query_that_comes_first_brings_its_written_positive() -> None:
    opening = {key: FIELDS[key] for key in ("query", "positive")}
    llm = ScriptedLLM([json.dumps(opening), json.dumps(FIELDS)])

    row = asyncio.run(MghStrategy(write_positive=True, query_first=True).write(WritingUnit(DOCUMENT), llm))

    assert (row.query, row.positive) == (FIELDS["query"], FIELDS["positive"])
    assert set(row.negatives) == set(LEVELS)


def test_mgh_gives_up_on_a_row_after_one_correction() -> None:
    llm = ScriptedLLM(["I would rather talk about the weather."] * 3)

    with pytest.raises(UnusableAnswer) as caught:
        asyncio.run(MghStrategy().write(WritingUnit(DOCUMENT), llm))

    assert caught.value.kind == "prose"
    assert llm.calls == 2


def test_stepwise_asks_for_one_field_a_call() -> None:
    def answer(request: CompletionRequest) -> str:
        return "Query: closing of a valve" if "search query" in request.messages[-1].content else "A passage on pumps."

    llm = ScriptedLLM(answer)
    row = asyncio.run(StepwiseStrategy().write(WritingUnit(DOCUMENT), llm))

    assert llm.calls == 5
    assert row.query == "closing of a valve"
    assert set(row.negatives) == set(LEVELS)


def test_stepwise_writes_no_negatives_where_none_are_wanted() -> None:
    llm = ScriptedLLM(["closing of a valve"])

    row = asyncio.run(StepwiseStrategy().write(WritingUnit(DOCUMENT, with_negatives=False), llm))

    assert (llm.calls, row.negatives) == (1, {})


def test_a_negative_that_was_cut_keeps_its_whole_sentences_only() -> None:
    cut = Completion("Pumps move water. They are driven by", "length", "m")
    llm = ScriptedLLM(lambda request: "a query" if request.max_tokens < 50 else cut)

    row = asyncio.run(StepwiseStrategy().write(WritingUnit(DOCUMENT), llm))

    assert set(row.negatives.values()) == {"Pumps move water."}


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ("how to close a valve", "how to close a valve"),
        ('  "how to close a valve"\nBecause …', "how to close a valve"),
        ("Search query: how to close a valve", "how to close a valve"),
        ("1. Question: when?", "when?"),
        ("\n\n", ""),
    ],
)
def test_the_first_line_is_taken_without_its_wrapping(answer: str, line: str) -> None:
    assert clean_line(answer) == line


@pytest.mark.parametrize(
    ("summary", "query"),
    [
        ("This text describes a function that multiplies a matrix.", "a function that multiplies a matrix"),
        ("The text is about loading data from a file", "loading data from a file"),
        ("This Python code provides a detailed explanation of the kurtosis test.", "the kurtosis test"),
        ("The document outlines how to rotate logs", "how to rotate logs"),
        ("Loads data from a file.", "Loads data from a file"),
        ("The text field holds the title", "The text field holds the title"),
    ],
)
def test_a_summary_becomes_a_query_about_the_subject_and_not_about_the_text(summary: str, query: str) -> None:
    assert summary_as_query(summary) == query


@pytest.mark.parametrize(
    ("answer", "query"),
    [
        ("This text highlights how to close a valve", "how to close a valve"),
        ("The document states that valves close by hand.", "valves close by hand."),
        ("this text field", "this text field"),
        ("The code of conduct says no", "The code of conduct says no"),
    ],
)
def test_no_query_opens_with_words_about_the_text(answer: str, query: str) -> None:
    assert about_the_subject(answer) == query


@pytest.mark.parametrize(("words", "calls"), [(8, 1), (60, 2), (500, 2)])
@pytest.mark.parametrize("heldout", [False, True])
def test_a_query_that_was_cut_gets_twice_the_room_and_is_never_half_a_query(
    words: int, calls: int, heldout: bool
) -> None:
    def answer(request: CompletionRequest) -> Completion:
        said = " ".join(f"w{number}" for number in range(min(words, request.max_tokens)))
        return Completion(said, "length" if request.max_tokens < words else "stop", "m")

    llm = ScriptedLLM(answer)
    strategy = build_strategy(SynthesisConfig(strategy="mined"), LLMConfig(), seed=1)
    with LocalEngine(concurrency=1) as engine:
        if heldout:
            (query,) = write_heldout_queries([DOCUMENT], llm, engine, LLMConfig(), characters=500, seed=1)
            written, failure = query.value, query.failure
        else:
            (row,) = synthesize([WritingUnit(DOCUMENT)], strategy, llm, engine)
            written, failure = row.value and row.value.query, row.failure

    assert llm.calls == calls
    if words == 500:
        assert failure is not None
        assert failure.kind == "truncated"
    else:
        assert written == " ".join(f"w{number}" for number in range(words))


def test_templates_have_no_placeholder_left_unfilled() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("query", document="x")
    for kind in get_args(QueryType):
        (message,) = render("query", document=DOCUMENT.text, style=Attributes(kind), index=0)
        assert DOCUMENT.text in message.content
    texts = {level: render("negative", document="x", level=int(level))[-1].content for level in LEVELS}
    assert len(set(texts.values())) == 4


def test_documents_are_put_into_prompts_as_they_are() -> None:
    hostile = '{{ 7 * 7 }} {% raw %} <script> & "quotes"'

    assert hostile in render("query", document=hostile, style=Attributes(), index=0)[-1].content


def test_units_are_a_fair_seeded_sample_and_first_queries_come_first() -> None:
    documents = [Document(f"d{number}", f"text {number}") for number in range(400)]
    config = SynthesisConfig(queries_per_document=2, negatives_share=0.25)

    units = writing_units(documents, config, seed=1)

    assert [unit.index for unit in units] == [0] * 400 + [1] * 400
    assert [unit.document.id for unit in units[:400]] != [document.id for document in documents]
    assert 60 < sum(unit.with_negatives for unit in units[:400]) < 140
    assert list(units) == list(writing_units(documents, config, seed=1))
    assert list(units) != list(writing_units(documents, config, seed=2))


def test_a_row_that_fails_costs_only_itself() -> None:
    documents = [Document(f"d{number}", f"unique text number {number}") for number in range(20)]
    config = SynthesisConfig(strategy="stepwise", negatives_share=0)
    units = writing_units(documents, config, seed=1)
    llm = ScriptedLLM(lambda request: "" if "number 7\n" in request.messages[-1].content else "a good query")

    with LocalEngine(concurrency=4) as engine:
        outcomes = list(synthesize(units, build_strategy(config, LLMConfig(), seed=1), llm, engine))

    failed = [outcome for outcome in outcomes if outcome.failure is not None]
    assert len(outcomes) == 20
    assert [outcome.unit.document.id for outcome in failed] == ["d7"]
    assert failed[0].failure is not None
    assert failed[0].failure.kind == "empty"


def test_heldout_queries_use_a_prompt_that_training_never_uses() -> None:
    llm = ScriptedLLM(lambda _: "what closes the valve?")
    with LocalEngine(concurrency=2) as engine:
        (outcome,) = write_heldout_queries([DOCUMENT], llm, engine, LLMConfig(), characters=500, seed=1)

    training_prompts = {
        render("query", document=DOCUMENT.text, style=Attributes(kind), index=0) for kind in get_args(QueryType)
    }
    assert outcome.value == "what closes the valve?"
    assert llm.requests[0].messages not in training_prompts


def test_a_given_query_is_never_rewritten_and_only_negatives_are_asked_for() -> None:
    given = "Why does  THE valve close?"
    unit = WritingUnit(DOCUMENT, query=given, relevant_ids=("d2",))
    llm = ScriptedLLM()
    with LocalEngine(concurrency=2) as engine:
        for name in ("mgh", "stepwise"):
            strategy = build_strategy(SynthesisConfig(strategy=name, query_first=True), LLMConfig(), seed=1)
            (outcome,) = synthesize([unit], strategy, llm, engine)
            assert outcome.value is not None
            assert (outcome.value.query, outcome.value.relevant_ids) == (given, ("d2",))
            assert set(outcome.value.negatives) == set(LEVELS)
    schema = llm.requests[0].schema
    assert schema is not None
    assert "query" not in schema["required"]
    assert given in llm.requests[0].messages[-1].content


def test_several_queries_of_a_document_differ_in_kind_and_kinds_follow_their_weights() -> None:
    documents = [Document(f"d{number}", f"text {number}") for number in range(400)]
    config = SynthesisConfig(query_types={"question": 3, "claim": 1}, queries_per_document=2, languages={"German": 1})

    units = writing_units(documents, config, seed=1)

    kinds: dict[str, list[str]] = {}
    for unit in units:
        kinds.setdefault(unit.document.id, []).append(unit.style.query_type)
    assert all(set(each) == {"question", "claim"} for each in kinds.values())
    assert 260 < sum(each[0] == "question" for each in kinds.values()) < 340
    assert {unit.style.language for unit in units} == {"German"}
