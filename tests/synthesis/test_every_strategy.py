"""What holds for every strategy, and what each does of its own, against a scripted model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from multigrain.config import LLMConfig, SynthesisConfig
from multigrain.config.synthesis import STRATEGIES
from multigrain.engine.local import LocalEngine
from multigrain.llm.protocol import CompletionRequest, UnusableAnswer
from multigrain.llm.scripted import ScriptedLLM, plausible_answer
from multigrain.records import LEVELS, Document, Level, SynthesizedRow
from multigrain.synthesis.strategies.counterfactual import edit
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit
from multigrain.synthesis.synthesize import build_strategy, synthesize
from multigrain.tools.synthesis_estimate import Estimate, ModelEstimate

DOCUMENT = Document(
    "d1",
    "The relief valve closes when the pressure falls below nine bar. A spring of hardened steel holds it shut, and "
    "a brass seat keeps the steam from leaking while the boiler warms.",
)
GIVEN = "when does the relief valve close"
CALLS = {
    "counterfactual": 2,
    "hybrid": 2,
    "mgh": 2,
    "mgh-levels": 5,
    "mined": 1,
    "mined-bands": 1,
    "over-generate": 5,
    "paraphrase": 2,
    "ranking-chain": 5,
    "single": 2,
    "stepwise": 5,
}
WRITTEN = {
    "counterfactual": {4},
    "hybrid": {4, 3},
    "mined": set(),
    "mined-bands": set(),
    "paraphrase": set(),
    "single": {4},
}


def answer(request: CompletionRequest) -> str:
    """Plausible, and an edit names words that are there."""
    if request.schema is not None and "original" in request.schema["properties"]:
        return json.dumps({"original": "falls below nine bar", "replacement": "rises above nine bar"})
    return plausible_answer(request)


def build(name: str | dict[str, float], **settings: Any) -> Strategy:
    return build_strategy(SynthesisConfig(strategy=name, **settings), LLMConfig(), seed=3)


def write(
    strategy: Strategy, unit: WritingUnit, script: Callable[[CompletionRequest], str] = answer
) -> SynthesizedRow:
    return asyncio.run(strategy.write(unit, ScriptedLLM(script)))


def test_config_and_registry_know_the_same_strategies() -> None:
    assert set(CALLS) == set(STRATEGIES.built_in)


@pytest.mark.parametrize("name", sorted(STRATEGIES.built_in))
def test_a_row_has_a_query_a_positive_and_the_levels_that_its_strategy_writes(name: str) -> None:
    llm = ScriptedLLM(answer)
    strategy = build(name)

    row = asyncio.run(strategy.write(WritingUnit(DOCUMENT), llm))

    assert (strategy.name, row.strategy, row.document_id) == (name, name, DOCUMENT.id)
    assert llm.calls == CALLS[name]
    assert row.query
    assert (row.positive == DOCUMENT.text) == (name != "paraphrase")
    assert {int(level) for level in row.negatives} == WRITTEN.get(name, {1, 2, 3, 4})
    assert row.mining == ("nearest" if name == "mined" else "bands")
    assert all(DOCUMENT.text in request.messages[-1].content for request in llm.requests[:1])


@pytest.mark.parametrize("name", sorted(STRATEGIES.built_in))
def test_the_same_unit_asks_the_same_and_another_index_asks_something_else(name: str) -> None:
    def asked(index: int) -> list[CompletionRequest]:
        llm = ScriptedLLM(answer)
        asyncio.run(build(name).write(WritingUnit(DOCUMENT, index=index), llm))
        return llm.requests

    assert asked(0) == asked(0)
    assert not set(map(str, asked(0))) & set(map(str, asked(1)))


@pytest.mark.parametrize("name", sorted(STRATEGIES.built_in))
def test_a_given_query_is_kept_and_only_what_is_missing_is_written(name: str) -> None:
    llm = ScriptedLLM(answer)

    row = asyncio.run(build(name, positive="written").write(WritingUnit(DOCUMENT, query=GIVEN), llm))

    assert row.query == GIVEN
    assert (row.positive == DOCUMENT.text) == (name != "paraphrase")
    assert llm.calls == CALLS[name] - 1
    # A passage is written for a query, so the model has to see it. (The free-text prompts of stepwise do not.)
    assert all(GIVEN in request.messages[-1].content for request in llm.requests) or name == "stepwise"
    assert all("query" not in (request.schema or {"properties": {}})["properties"] for request in llm.requests)


@pytest.mark.parametrize("name", sorted(set(STRATEGIES.built_in) - {"paraphrase"}))
def test_a_row_without_negatives_costs_the_query_alone(name: str) -> None:
    llm = ScriptedLLM(answer)

    row = asyncio.run(build(name).write(WritingUnit(DOCUMENT, with_negatives=False), llm))

    assert (llm.calls, row.negatives, row.candidates) == (1, {}, {})


@pytest.mark.parametrize("name", sorted(set(STRATEGIES.built_in) - {"paraphrase", "stepwise"}))
def test_the_positive_can_be_written_too(name: str) -> None:
    def script(request: CompletionRequest) -> str:
        if "original" in (request.schema or {"properties": {}})["properties"]:
            shown = request.messages[-1].content.split("<text>\n")[1]
            return json.dumps({"original": shown.split()[0], "replacement": "Nothing"})
        return plausible_answer(request)

    row = write(build(name, positive="written"), WritingUnit(DOCUMENT), script)

    assert row.positive not in ("", DOCUMENT.text)
    assert row.document_id == DOCUMENT.id  # so that the document never becomes a negative of its own passage


@pytest.mark.parametrize("name", sorted(STRATEGIES.built_in))
@pytest.mark.parametrize("answers", ["", "I cannot help with that.", '{"passage": ""}', '{"query": 3}', "{" * 900])
def test_useless_answers_cost_their_row_only(name: str, answers: str) -> None:
    strategy = build(name)
    with LocalEngine(concurrency=1) as engine:
        (outcome,) = synthesize([WritingUnit(DOCUMENT)], strategy, ScriptedLLM(lambda _: answers), engine)

    if outcome.failure is not None:
        assert outcome.failure.kind in ("empty", "prose", "refusal", "truncated", "schema", "no_edit")
    else:
        assert outcome.value is not None
        assert outcome.value.query
        assert all(text.strip() for text in outcome.value.negatives.values())


@pytest.mark.parametrize("name", sorted(STRATEGIES.built_in))
def test_documents_and_queries_are_shown_as_they_are(name: str) -> None:
    hostile = '{{ 7 * 7 }} {% raw %} <script> & "quotes" falls below nine bar'
    llm = ScriptedLLM(answer)

    asyncio.run(build(name).write(WritingUnit(Document("d", hostile), query="{{ query }} & more"), llm))

    shown = "".join(request.messages[-1].content for request in llm.requests)
    assert hostile in shown or not llm.requests
    assert "{{ query }} & more" in shown or name in ("mined", "mined-bands", "stepwise")


def test_levels_are_written_from_easy_to_hard_with_the_easier_ones_in_view() -> None:
    llm = ScriptedLLM(answer)

    row = asyncio.run(build("mgh-levels").write(WritingUnit(DOCUMENT, query=GIVEN), llm))

    prompts = [request.messages[-1].content for request in llm.requests]
    for number, level in enumerate(LEVELS):
        seen = {each for each in LEVELS if row.negatives[each] in prompts[number]}
        assert seen == set(LEVELS[:number])
        assert "another subject altogether" in prompts[0]
        assert level == number + 1


def test_a_chain_rewrites_each_link_from_the_one_before_hardest_first() -> None:
    llm = ScriptedLLM(answer)

    row = asyncio.run(build("ranking-chain").write(WritingUnit(DOCUMENT, query=GIVEN), llm))

    links = [DOCUMENT.text, *(row.negatives[level] for level in reversed(LEVELS))]
    for number, request in enumerate(llm.requests):
        assert f"<passage>\n{links[number]}\n</passage>" in request.messages[-1].content


def test_candidates_are_kept_whole_and_repeats_count_once() -> None:
    def script(request: CompletionRequest) -> str:
        if request.schema is None:
            return GIVEN
        hard = "looks like an answer" in request.messages[-1].content
        return json.dumps({"passages": ["same", "same", "same"] if hard else ["one", "two", "three"]})

    row = write(build("over-generate"), WritingUnit(DOCUMENT), script)

    assert row.negatives == {level: "same" if level is Level.HARD else "one" for level in LEVELS}
    assert row.candidates == {level: ("two", "three") for level in LEVELS if level is not Level.HARD}


def test_hybrid_asks_for_the_levels_that_the_config_names() -> None:
    llm = ScriptedLLM(answer)

    row = asyncio.run(build("hybrid", written_levels=[2, 4]).write(WritingUnit(DOCUMENT), llm))

    assert set(row.negatives) == {Level.HARD, Level.MEDIUM_LOW}
    schema = llm.requests[1].schema
    assert schema is not None
    assert list(schema["properties"]) == ["level_4", "level_2"]
    assert "level_3" not in llm.requests[1].messages[-1].content


def test_a_counterfactual_changes_the_named_words_and_nothing_else() -> None:
    row = write(build("counterfactual"), WritingUnit(DOCUMENT))

    assert row.negatives == {Level.HARD: DOCUMENT.text.replace("falls below", "rises above")}


@pytest.mark.parametrize(
    ("original", "replacement"), [("not there", "x"), ("Relief valve", "x"), ("spring", "Spring ")]
)
def test_an_edit_that_cannot_be_made_or_changes_nothing_is_refused(original: str, replacement: str) -> None:
    with pytest.raises(UnusableAnswer) as caught:
        edit(DOCUMENT.text, original, replacement)
    assert caught.value.kind == "no_edit"


def test_the_query_can_be_paraphrased_instead_of_the_document() -> None:
    llm = ScriptedLLM(answer)

    asyncio.run(build("paraphrase", paraphrase="query").write(WritingUnit(DOCUMENT, query=GIVEN), llm))

    assert f"another person would who wants the same thing: {GIVEN}\n" in llm.requests[0].messages[-1].content


@pytest.mark.parametrize("name", sorted(STRATEGIES.built_in))
def test_an_estimate_counts_what_a_strategy_asks(name: str) -> None:
    units = [WritingUnit(Document(f"d{number}", f"[{number}] {DOCUMENT.text}")) for number in range(30)]
    with LocalEngine(concurrency=2) as engine:
        model = ModelEstimate(None)
        model.add_rows(units, build(name), engine)
    estimate = Estimate.of([model])

    # The stand-in names no words to edit, which costs a row nothing more.
    assert (estimate.rows, estimate.requests) == (30, 30 * CALLS[name])
    assert estimate.prompt_tokens > 30 * len(DOCUMENT.text) / 5
    texts = {"mgh": 4, "hybrid": 2, "single": 1, "over-generate": 12, "ranking-chain": 4}.get(name)
    if texts is not None:
        assert estimate.completion_tokens >= 30 * 70 * texts
