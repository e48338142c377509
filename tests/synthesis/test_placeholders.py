"""Whatever a row is asked to be, its prompts are filled: no placeholder is left, and nothing says "None"."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.config import LLMConfig, SynthesisConfig, TasksConfig
from multigrain.config.synthesis import STRATEGIES, QueryType
from multigrain.engine.local import LocalEngine
from multigrain.llm.protocol import CompletionRequest, Message
from multigrain.llm.scripted import ScriptedLLM, plausible_answer
from multigrain.records import Document, TaskKind
from multigrain.sources.tasks import make_task
from multigrain.synthesis.attributes import Attributes, task_attributes
from multigrain.synthesis.brainstorm import brainstorm
from multigrain.synthesis.few_shot import Demonstration
from multigrain.synthesis.heldout import write_heldout_queries
from multigrain.synthesis.prompts import BUILT_IN, template_names
from multigrain.synthesis.query_judge import query_request
from multigrain.synthesis.strategies.from_task import for_tasks
from multigrain.synthesis.strategies.protocol import LabelUnit, Strategy, WritingUnit
from multigrain.synthesis.style import StyleQueries
from multigrain.synthesis.synthesize import build_strategy

UNFILLED = re.compile(r"\{\{|\}\}|\{%|%\}|\{#|#\}|\bNone\b|Undefined|<(?:bound method|built-in|function|generator)")
LANGUAGES = ("English", "German", "Thai")
QUERY_TYPES = get_args(QueryType)
DOCUMENT = "The relief valve closes when the pressure falls below nine bar."
QUERY = "when does the relief valve close"
EXAMPLE = Demonstration(
    document="A lamp.", query="what is it", positive="It is a lamp.", paraphrase="Some lamp.",
    level_4="Four.", level_3="Three.", level_2="Two.", level_1="One.", original="lamp", replacement="light",
)  # fmt: skip


def build(name: str, **values: Any) -> Strategy:
    synthesis = SynthesisConfig.model_validate({"strategy": name, **values})
    return build_strategy(synthesis, LLMConfig(), seed=3, demonstrations=[EXAMPLE])


def answer(request: CompletionRequest) -> str:
    """Plausible, and an edit names a word that is there."""
    if request.schema is not None and "original" in request.schema["properties"]:
        shown = request.messages[-1].content.split("<text>\n")[1]
        return json.dumps({"original": shown.split()[0], "replacement": "Nothing"})
    return plausible_answer(request)


def prompts(strategy: Strategy, unit: WritingUnit) -> list[str]:
    """What a strategy asks for a unit."""
    llm = ScriptedLLM(answer)
    asyncio.run(strategy.write(unit, llm))
    return [message.content for request in llm.requests for message in request.messages]


def check(texts: list[str]) -> None:
    for text in texts:
        assert UNFILLED.search(text) is None, text
        assert text.strip() == text != ""


@given(
    name=st.sampled_from(sorted(STRATEGIES.built_in)),
    index=st.integers(0, 3),
    with_negatives=st.booleans(),
    query=st.none() | st.just(QUERY),
    query_type=st.sampled_from(QUERY_TYPES),
    language=st.none() | st.sampled_from(LANGUAGES),
    title=st.none() | st.just("Valves"),
    positive=st.sampled_from(["document", "written"]),
    of=st.sampled_from(["document", "query"]),
    few_shot=st.sampled_from(["none", "fixed"]),
)
@settings(max_examples=250, deadline=None)
def test_prompts_for_documents_are_filled(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    index: int,
    with_negatives: bool,
    query: str | None,
    query_type: str,
    language: str | None,
    title: str | None,
    positive: str,
    of: str,
    few_shot: str,
) -> None:
    values: dict[str, Any] = {"positive": positive, "paraphrase": of, "few_shot": few_shot}
    if few_shot != "none":
        values["few_shot_path"] = tmp_path_factory.getbasetemp() / "examples.jsonl"  # given, so it is not read
        values["few_shot_count"] = 1
    unit = WritingUnit(
        Document("d", DOCUMENT, title),
        index,
        with_negatives,
        query,
        Attributes(query_type=query_type, language=language),
    )

    messages = prompts(build(name, **values), unit)

    check(messages)
    if query is None:
        assert any(DOCUMENT in text for text in messages)
        assert language is None or any(f"in {language}." in text for text in messages)
    if few_shot == "fixed":
        assert all("A lamp." in text for text in messages if DOCUMENT in text)


@given(
    kind=st.sampled_from(TaskKind),
    name=st.sampled_from(sorted(STRATEGIES.built_in)),
    index=st.integers(0, 40),
    seed=st.integers(0, 5),
    with_negatives=st.booleans(),
    languages=st.lists(st.sampled_from(LANGUAGES), min_size=2, unique=True),
)
@settings(max_examples=250, deadline=None)
def test_prompts_for_tasks_are_filled_and_ask_for_what_was_drawn(
    kind: TaskKind, name: str, index: int, seed: int, with_negatives: bool, languages: list[str]
) -> None:
    config = TasksConfig(kinds={kind: 1.0}, languages=dict.fromkeys(languages, 1.0))
    task = make_task(kind, "Given a symptom, find its cure.")
    style = task_attributes(task, index, config, seed=seed)
    unit = WritingUnit(Document(task.id, task.text), index, with_negatives, style=style, task=task)
    strategy = for_tasks(build(name), SynthesisConfig.model_validate({"strategy": name}), LLMConfig(), seed=seed)

    messages = prompts(strategy, unit)

    check(messages)
    first = messages[1]  # the system's message goes before it
    assert task.text in first
    assert {style.language, style.document_language} <= set(languages)
    assert (style.language != style.document_language) == (kind is TaskKind.BITEXT)
    drawn = [style.language, style.document_language, style.difficulty, style.query_length, style.clarity]
    drawn += [style.positive_score, style.document_words]
    if name == "mgh" and with_negatives:
        drawn += style.negative_scores or ()
    for value in drawn:
        assert value is None or str(value) in first, value


@pytest.mark.parametrize("kind", TaskKind)
@pytest.mark.parametrize("topics", [[], ["payroll", "gardens"]])
def test_prompts_that_ask_for_tasks_are_filled(kind: TaskKind, topics: list[str]) -> None:
    llm = ScriptedLLM()
    config = TasksConfig(
        kinds={kind: 1.0}, topics=topics, count=30, per_request=7, languages=dict.fromkeys(LANGUAGES, 1.0)
    )
    with LocalEngine(concurrency=1) as engine:
        brainstorm(config, llm, engine, LLMConfig(), seed=1)

    messages = [request.messages[-1].content for request in llm.requests]
    assert len(messages) > 4
    check(messages)
    assert all(any(topic in text for topic in topics) for text in messages) or not topics


def test_held_out_queries_and_judgments_are_asked_for_with_filled_prompts() -> None:
    llm = ScriptedLLM()
    with LocalEngine(concurrency=1) as engine:
        list(write_heldout_queries([Document("d", DOCUMENT)], llm, engine, LLMConfig(), characters=40, seed=1))

    messages = [message.content for request in llm.requests for message in request.messages]
    for judge in ("judge", "judge_quote"):
        messages += [message.content for message in BUILT_IN.render(judge, query=QUERY, passage=DOCUMENT)]
    check(messages)
    assert DOCUMENT[:40] in messages[0]


def test_the_judge_of_queries_is_shown_query_and_text() -> None:
    prompt = query_request(QUERY, DOCUMENT, seed=1).messages[-1].content

    assert QUERY in prompt
    assert DOCUMENT in prompt
    assert not UNFILLED.search(prompt)


def test_examples_of_style_stand_before_the_prompt() -> None:
    style = StyleQueries(("valve leaks", "error E7"), count=2)
    (message,) = style.before([Message("user", "Write one.")], BUILT_IN, "place")

    assert message.content.endswith("Write one.")
    assert all(query in message.content for query in style.queries)
    assert not UNFILLED.search(message.content)


@pytest.mark.parametrize("name", ["mined", "mined-bands"])
@pytest.mark.parametrize(("index", "examples"), [(0, ()), (2, (("cats", "it purrs"), ("dogs", "it barks")))])
def test_prompts_for_labels_name_them_all(name: str, index: int, examples: tuple[tuple[str, str], ...]) -> None:
    label = LabelUnit("cats", "all about cats", (("dogs", "all about dogs"), ("bees", "all about bees")), examples)

    (prompt,) = prompts(build(name), WritingUnit(Document("cats", "all about cats"), index, label=label))

    check([prompt])
    assert all(f"- {each}: all about {each}\n" in prompt for each in ("cats", "dogs", "bees"))
    assert all(f"Label: {each}\nText: {text}\n" in prompt for each, text in examples)
    assert ("not the most obvious one" in prompt) is (index > 0)


def test_no_template_is_left_out_here() -> None:
    """Of those that the package has; a new one has to be asked for by some test above."""
    assert template_names() == [
        "brainstorm", "candidates", "drift", "edit", "examples", "heldout_query", "judge", "judge_quote", "label_text",
        "level", "mgh", "negative",
        "opening", "paraphrase", "query", "query_judge", "style", "task_row",
    ]  # fmt: skip
