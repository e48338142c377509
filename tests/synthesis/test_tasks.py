"""Tasks that a model thinks of, the rows that they become, and what is kept apart."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from multigrain.config import DocumentsConfig, LLMConfig, SynthesisConfig, TasksConfig
from multigrain.config.synthesis import STRATEGIES
from multigrain.engine.local import LocalEngine
from multigrain.errors import ConfigError
from multigrain.llm.protocol import CompletionRequest
from multigrain.llm.scripted import ScriptedLLM, plausible_answer
from multigrain.records import Split, SynthesizedRow, TaskKind
from multigrain.sources.tasks import make_task, split_tasks
from multigrain.synthesis.attributes import task_attributes
from multigrain.synthesis.brainstorm import Brainstorm, brainstorm, shares_of
from multigrain.synthesis.inputs import written_corpus
from multigrain.synthesis.strategies.from_task import for_tasks
from multigrain.synthesis.synthesize import build_strategy
from multigrain.synthesis.units import task_units


def think(config: TasksConfig, llm: ScriptedLLM) -> Brainstorm:
    with LocalEngine(concurrency=4) as engine:
        return brainstorm(config, llm, engine, LLMConfig(), seed=1)


def forgetful(request: CompletionRequest) -> str:
    """The same three tasks in every list, in slightly other words, and some that are new."""
    old = [
        f"Given symptom {n} of a machine, find the page of its manual that says how to mend it{'!' * request.seed}"
        for n in range(3)
    ]
    new = [f"task{request.seed}x{n} a{n}{request.seed} b{n}{request.seed} c{n}{request.seed}" for n in range(2)]
    return json.dumps({"tasks": [*old, *new, "too short"]})


def test_kinds_are_balanced_and_near_duplicates_asked_for_again() -> None:
    llm = ScriptedLLM(forgetful)
    config = TasksConfig(kinds={TaskKind.SHORT_LONG: 2, TaskKind.STS: 1}, count=15, per_request=6, rounds=10)

    brainstormed = think(config, llm)

    assert Counter(task.kind for task in brainstormed.tasks) == {TaskKind.SHORT_LONG: 10, TaskKind.STS: 5}
    assert len({task.id for task in brainstormed.tasks}) == 15
    assert brainstormed.near_duplicates > 0
    assert brainstormed.unusable > 0
    assert brainstormed.missing() == {}
    assert sum("symptom" in task.text for task in brainstormed.tasks if task.kind is TaskKind.STS) == 1


def test_a_model_that_says_the_same_thing_is_not_asked_forever() -> None:
    same = json.dumps({"tasks": ["Given a question, find the page that answers it."]})
    llm = ScriptedLLM(lambda _: same)

    brainstormed = think(TasksConfig(kinds={TaskKind.SHORT_LONG: 1}, count=10, rounds=50), llm)

    assert (len(brainstormed.tasks), brainstormed.missing()) == (1, {TaskKind.SHORT_LONG: 9})
    assert llm.calls == 2


def test_a_brainstorm_is_the_same_whenever_answers_come_and_topics_take_turns() -> None:
    config = TasksConfig(count=12, per_request=3, topics=["payroll", "gardens"])
    model = ScriptedLLM(forgetful)

    assert think(config, model).tasks == think(config, ScriptedLLM(forgetful)).tasks
    prompts = [request.messages[-1].content for request in model.requests]
    assert any("about payroll" in prompt for prompt in prompts)
    assert any("about gardens" in prompt for prompt in prompts)
    assert {request.temperature for request in model.requests} == {1.0}


@pytest.mark.parametrize("count", [1, 7, 100])
def test_shares_add_up(count: int) -> None:
    shares = shares_of(
        count, {TaskKind.STS: 0.5, TaskKind.BITEXT: 0.2, TaskKind.SHORT_LONG: 1.7, TaskKind.LONG_LONG: 0}
    )

    assert sum(shares.values()) == count
    assert TaskKind.LONG_LONG not in shares


def test_knobs_follow_their_weights_and_scores_their_levels() -> None:
    config = TasksConfig(languages={"English": 3, "German": 1, "Thai": 0})
    search, sts, bitext = (
        make_task(kind, f"a task of kind {kind}") for kind in (TaskKind.SHORT_LONG, TaskKind.STS, TaskKind.BITEXT)
    )

    styles = [task_attributes(search, index, config, seed=1) for index in range(2000)]

    assert 1400 < sum(style.language == "English" for style in styles) < 1600
    assert 700 < sum(style.query_length == "5 to 15 words" for style in styles) < 900
    assert 900 < sum(style.difficulty is None for style in styles) < 1100
    assert {style.document_words for style in styles} == {50, 100, 200, 300, 400, 500}
    assert styles == [task_attributes(search, index, config, seed=1) for index in range(2000)]
    for index in range(50):
        similar = task_attributes(sts, index, config, seed=1)
        assert similar.positive_score is not None
        assert similar.negative_scores is not None
        assert list(similar.negative_scores) == sorted(set(similar.negative_scores))
        assert similar.negative_scores[-1] < similar.positive_score
        pair = task_attributes(bitext, index, config, seed=1)
        assert {pair.language, pair.document_language} == {"English", "German"}


def edits_what_is_there(request: CompletionRequest) -> str:
    if request.schema is not None and "original" in request.schema["properties"]:
        text = request.messages[-1].content.split("<text>\n")[1]
        return json.dumps({"original": text.split()[0], "replacement": "Never"})
    return plausible_answer(request)


@pytest.mark.parametrize("name", sorted(STRATEGIES.built_in))
@pytest.mark.parametrize("kind", TaskKind)
def test_every_strategy_writes_for_every_kind_of_task(name: str, kind: TaskKind) -> None:
    synthesis = SynthesisConfig.model_validate({"strategy": name})
    strategy = for_tasks(build_strategy(synthesis, LLMConfig(), seed=1), synthesis, LLMConfig(), seed=1)
    config = TasksConfig(rows=20, kinds={kind: 1.0}, languages={"English": 1.0, "German": 1.0})
    units = task_units([make_task(kind, "Given this, find that.")], config, synthesis, DocumentsConfig(), seed=1)
    train = next(unit for unit in units if unit.document.split is Split.TRAIN)
    held_out = next(unit for unit in units if unit.document.split is not Split.TRAIN)

    llm = ScriptedLLM(edits_what_is_there)
    row = asyncio.run(strategy.write(train, llm))
    pair = asyncio.run(strategy.write(held_out, ScriptedLLM(edits_what_is_there)))

    assert (row.strategy, row.task, row.query_type, row.document_id) == (name, "Given this, find that.", kind, None)
    written = {"counterfactual": 1, "single": 1, "hybrid": 2, "mined": 0, "mined-bands": 0, "paraphrase": 0}
    assert len(row.negatives) == written.get(name, 4)
    texts = [row.query, row.positive, *row.negatives.values()]
    assert all(text.strip() for text in texts)
    assert len(set(texts)) == len(texts)
    if name != "paraphrase":  # the others are shown the written positive as if it had been given
        assert all(row.positive in request.messages[-1].content for request in llm.requests[1:2])
    assert pair.query
    assert pair.positive
    assert pair.negatives == {}


def test_rows_are_shared_out_over_kinds_and_tasks_and_held_out_ones_get_no_negatives() -> None:
    shares = DocumentsConfig(validation_share=0.2, test_share=0.2)
    config = TasksConfig(rows=300, kinds={TaskKind.SHORT_LONG: 2, TaskKind.STS: 1})
    tasks = [make_task(kind, f"task number {n} of {kind}") for kind in config.kinds for n in range(20)]
    tasks = split_tasks(tasks, config, shares)

    units = task_units(tasks, config, SynthesisConfig(), shares, seed=1)

    assert Counter(unit.task.kind for unit in units if unit.task) == {TaskKind.SHORT_LONG: 200, TaskKind.STS: 100}
    assert set(Counter(unit.document.id for unit in units).values()) == {10, 5}
    assert all(unit.with_negatives == (unit.document.split is Split.TRAIN) for unit in units)
    assert all(unit.task is not None and unit.document.split is unit.task.split for unit in units)
    assert len({(unit.document.id, unit.index) for unit in units}) == 300


def test_translations_in_one_language_are_refused() -> None:
    with pytest.raises(ConfigError, match="two languages"):
        task_units(
            [make_task(TaskKind.BITEXT, "Match translations.")],
            TasksConfig(),
            SynthesisConfig(),
            DocumentsConfig(),
            seed=1,
        )


def test_training_rows_that_nearly_repeat_a_held_out_positive_are_left_out() -> None:
    text = " ".join(f"word{n}" for n in range(40))
    rows = [
        (SynthesizedRow("a", None, "first query", text), Split.TRAIN),
        (SynthesizedRow("b", None, "second query", text + " more"), Split.TEST),
        (SynthesizedRow("c", None, "third query", text.replace("word", "other")), Split.TRAIN),
        (SynthesizedRow("d", None, "fourth query", "billing"), Split.TRAIN),
        (SynthesizedRow("e", None, "fifth query", "billing"), Split.TEST),
    ]

    corpus = written_corpus(rows, similarity=0.7)

    assert [row.id for row in corpus.rows] == ["c", "d"]
    assert corpus.heldout == {"b": "second query", "e": "fifth query"}
    assert corpus.near_heldout == 1
    sides = {document.id: document.split for document in corpus.documents}
    assert (sides["a"], sides["b"], sides["d"], sides["e"]) == (Split.TEST, Split.TEST, Split.TRAIN, Split.TEST)
