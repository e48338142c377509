"""Solved examples before the task: how they are read, chosen, ranked and shown."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.config import LLMConfig, SynthesisConfig
from multigrain.config.file import load_config, parse_config
from multigrain.config.synthesis import STRATEGIES
from multigrain.engine.local import LocalEngine
from multigrain.errors import ConfigError
from multigrain.llm.local.runtime import LocalLLM
from multigrain.llm.protocol import CompletionRequest, Message
from multigrain.llm.scripted import ScriptedLLM, plausible_answer
from multigrain.records import Document
from multigrain.synthesis.few_shot import BalancedSelector, Demonstration, read_demonstrations
from multigrain.synthesis.likelihood import rank_by_likelihood
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.synthesize import build_strategy

DOCUMENT = Document("d1", "The relief valve closes when the pressure falls below nine bar.")


def example(number: int, **more: Any) -> dict[str, Any]:
    levels = {f"level_{level}": f"negative {level} of {number}" for level in (1, 2, 3)}
    return {
        "document": f"document {number}",
        "query": f"query {number}",
        "positive": f"positive {number}",
        **levels,
        "level_4": [f"negative 4 of {number}", f"another negative 4 of {number}"],
        "paraphrase": f"paraphrase {number}",
        "original": "document",
        "replacement": "paper",
        **more,
    }


def write(path: Path, *examples: dict[str, Any]) -> Path:
    path.write_text("\n".join(json.dumps(example) for example in examples) + "\n")
    return path


def config(path: Path, selector: str = "fixed", strategy: Any = "mgh", count: int = 2) -> SynthesisConfig:
    values = {"strategy": strategy, "few_shot": selector, "few_shot_path": path, "few_shot_count": count}
    return SynthesisConfig.model_validate(values)


def answer(request: CompletionRequest) -> str:
    if request.schema is not None and "original" in request.schema["properties"]:
        return json.dumps({"original": "nine", "replacement": "ten"})
    return plausible_answer(request)


@pytest.mark.parametrize("name", sorted(STRATEGIES.built_in))
def test_every_call_of_every_strategy_is_shown_examples_in_the_form_of_its_own_answer(
    name: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "examples.jsonl", *(example(number) for number in range(4)))
    llm = ScriptedLLM(answer)

    asyncio.run(build_strategy(config(path, strategy=name), LLMConfig(), seed=1).write(WritingUnit(DOCUMENT), llm))

    for request in llm.requests:
        prompt = request.messages[-1].content
        assert prompt.count("<example>") == 2
        assert prompt.index("document 0") < prompt.index("document 1") < prompt.index("the real task")
        shown = prompt.split("Answer: ")[1].split("\n</example>")[0]
        if request.schema is None:
            assert shown.startswith(("query 0", "negative"))
        else:
            example_answer = json.loads(shown)
            assert list(example_answer) == list(request.schema["properties"])
            assert all(example_answer.values())


def test_examples_are_part_of_what_is_asked_and_come_first_for_the_prefix_cache(tmp_path: Path) -> None:
    path = write(tmp_path / "examples.jsonl", *(example(number) for number in range(4)))
    plain, shown = ScriptedLLM(), ScriptedLLM()
    other = WritingUnit(Document("d2", "Another text."))
    asyncio.run(build_strategy(SynthesisConfig(strategy="mined"), LLMConfig(), seed=1).write(other, plain))
    strategy = build_strategy(config(path, strategy="mined"), LLMConfig(), seed=1)
    for unit in (other, WritingUnit(DOCUMENT)):
        asyncio.run(strategy.write(unit, shown))

    first, second = (request.messages[-1].content for request in shown.requests)
    assert first.endswith(plain.requests[0].messages[-1].content)
    block = first.index("Another text.")
    assert first[:block] == second[:block]


def test_balanced_examples_are_whole_groups_in_one_order_of_kinds(tmp_path: Path) -> None:
    kinds = ["fact", "how-to", "fact", "opinion", "how-to", "opinion", "fact"]
    path = write(tmp_path / "e.jsonl", *(example(number, kind=kind) for number, kind in enumerate(kinds)))
    selector = BalancedSelector.checked(read_demonstrations(path), 7, seed=1, path=path)

    picks = {row: selector.pick(row, frozenset({"query"})) for row in map(str, range(40))}

    for picked in picks.values():
        assert [example.kind for example in picked] == ["fact", "how-to", "opinion"] * 2
        assert len(set(picked)) == 6
    assert len(set(picks.values())) > 5
    assert picks["3"] == selector.pick("3", frozenset({"query"}))
    facts = Counter(example.document for picked in picks.values() for example in picked if example.kind == "fact")
    assert len(facts) == 3


@pytest.mark.parametrize(
    ("lines", "selector", "words"),
    [
        ([], "fixed", "no example in it"),
        (['{"document": "d", "query": "q"', ""], "fixed", "line 1"),
        (['{"document": "d"}', '{"document": ""}'], "fixed", ":2: document"),
        (['{"document": "d", "qurey": "q"}'], "fixed", "qurey"),
        (['{"document": "d", "query": "q"}'], "balanced", 'no "kind"'),
        (['{"document": "d", "kind": "a"}', '{"document": "d", "kind": "b"}'] * 2, "balanced", "2 kinds"),
    ],
)
def test_what_is_wrong_with_the_examples_is_said_before_anything_is_asked(
    lines: list[str], selector: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "examples.jsonl"
    path.write_text("\n".join(lines))

    with pytest.raises(ConfigError, match=words):
        build_strategy(config(path, selector, count=1), LLMConfig(), seed=1)


@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from("\u2028\u2029\x85"), max_size=30).map(
            "d{}e".format
        ),
        min_size=1,
        max_size=4,
    ),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_examples_are_read_one_a_line_whatever_is_in_them(
    texts: list[str], encoding: str, end: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("few-shot") / "examples.jsonl"
    lines = [json.dumps({"document": text}, ensure_ascii=False) for text in texts]
    path.write_bytes(end.join([*lines, ""]).encode(encoding))

    assert [example.document for example in read_demonstrations(path)] == texts


def test_examples_that_do_not_show_what_a_strategy_asks_for_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "e.jsonl", {"document": "d", "query": "q"})
    strategy = build_strategy(config(path), LLMConfig(), seed=1)

    with pytest.raises(ConfigError, match=r"none holds all of level_1, .* query"):
        asyncio.run(strategy.write(WritingUnit(DOCUMENT), ScriptedLLM()))


def test_a_selector_needs_a_file_and_the_file_lies_beside_the_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs few_shot_path"):
        parse_config({"synthesis": {"few_shot": "fixed"}})
    path = tmp_path / "config.yaml"
    path.write_text("synthesis: {few_shot: fixed, few_shot_path: examples.jsonl}")
    assert load_config(path).synthesis.few_shot_path == tmp_path / "examples.jsonl"


class Lengths:
    """Finds answers likely whose prompt holds a certain word."""

    async def log_likelihood(self, request: CompletionRequest, answer: str) -> float:
        shown = request.messages[-1].content.split("the real task")[0]
        return -len(answer) * (1.0 if "good" in shown else 2.0)


def test_examples_are_ranked_by_how_well_they_predict_the_others() -> None:
    texts = ["plain one", "plain two", "a good one", "plain three"]
    examples = [Demonstration(document=text, query=f"what is {text[-3:]}") for text in texts]
    examples.append(Demonstration(document="no query in it"))
    with LocalEngine(concurrency=2) as engine:
        ranked = rank_by_likelihood(examples, Lengths(), engine, seed=1, probes=1)
        with pytest.raises(ConfigError, match="at least two"):
            rank_by_likelihood(examples[-2:], Lengths(), engine, seed=1)

    assert ranked[0][0].document == "a good one"
    assert len(ranked) == 4
    assert [score for _, score in ranked] == sorted((score for _, score in ranked), reverse=True)


def test_a_real_model_finds_a_fitting_answer_likelier_than_an_unfitting_one() -> None:
    model = LocalLLM("auto", concurrency=1, threads=1, context_tokens=512)
    prompt = f"{DOCUMENT.text}\n\nWrite the short search query that somebody would type to find this text."
    request = CompletionRequest((Message("user", prompt),), max_tokens=1)
    answers = ["when does the relief valve close", "purple elephants dance the tango", 'say "no"\n\\ né 😀 [x]']

    async def score() -> list[float]:
        try:
            return [await model.log_likelihood(request, answer) for answer in [*answers, answers[0]]]
        finally:
            await model.aclose()

    fitting, unfitting, strange, again = asyncio.run(score())
    assert 0 > fitting > unfitting
    assert strange < 0
    assert again == pytest.approx(fitting, abs=0.05)
