"""The page of samples in small: a scripted model, made-up similarities, and nothing left out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from benchmarks.samples import page
from benchmarks.samples.asking import CpuTimed, Section, asking
from benchmarks.samples.inputs import OWN_TASKS, VARIANTS

from multigrain.config.synthesis import STRATEGIES
from multigrain.encoders.protocol import Floats
from multigrain.llm.protocol import CompletionRequest
from multigrain.llm.scripted import ScriptedLLM, plausible_answer
from multigrain.records import LEVELS, TaskKind

PAGE = Path(__file__).resolve().parents[2] / "docs" / "samples.md"


def embed(texts: Sequence[str]) -> Floats:
    rows = [np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint8) for text in texts]
    vectors = np.stack(rows).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def render(sections: Sequence[Section]) -> str:
    parts = [(each, page.measure(each, embed, embed)) for each in sections]
    return page.page({"scripted": parts}, "python benchmark.py", {"scripted": "No file."})


def without_graded_answers(request: CompletionRequest) -> str:
    return "`no` JSON | at all" if "level_1" in str(request.schema) else plausible_answer(request)


def test_every_strategy_is_asked_and_every_answer_is_shown(tmp_path: Path) -> None:
    with asking(ScriptedLLM(without_graded_answers), None, tmp_path / "j.sqlite", rows=2) as ask:
        found = [*ask.strategies(), *ask.few_shot(tmp_path)]
        entries = len(list(ask.journal.entries()))

    measured = [page.measure(each, embed, embed) for each in found]
    titles = [each.title for each in found]
    assert set(STRATEGIES.built_in) < set(titles)
    # Two ways that open with the same question about a document ask it once.
    assert entries == sum(each.calls for each in found) - 2
    shown = render(found)
    assert all(f"### {title}\n" in shown for title in titles)
    # mgh's answers are no JSON: the row fails, and both attempts are shown, harmless to Markdown.
    assert shown.count("  - said: `` `no` JSON | at all ``") >= 4
    figures = {each.title: page.figures(each, one) for each, one in zip(found, measured, strict=True)}
    assert figures["mgh"]["failed"] == {"prose": 2}
    assert figures["over-generate"]["negatives"] > figures["mgh-levels"]["negatives"] == 8
    assert (figures["mined"]["calls"], figures["mined"]["rows"], figures["mined"]["negatives"]) == (2, 2, 0)


def test_every_kind_of_task_is_thought_of_and_written_for(tmp_path: Path) -> None:
    def script(request: CompletionRequest) -> str:
        if request.asked_by != "brainstorm":
            return plausible_answer(request)
        prompt = request.messages[-1].content
        texts = (
            ["x", "y"]
            if "translation" in prompt
            else [f"Given a thing of sort {n}{prompt[:9]}, find its pair" for n in "ab"]
        )
        return json.dumps({"tasks": texts})

    with asking(ScriptedLLM(script), None, tmp_path / "j.sqlite", rows=1) as ask:
        found = ask.tasks()

    shown = render(found)
    assert [each.title for each in found] == [f"task of kind {kind}" for kind in TaskKind]
    for section, kind in zip(found, TaskKind, strict=True):
        (sample,) = section.samples
        assert sample.row is not None
        assert set(sample.row.negatives) == set(LEVELS)
        assert (sample.row.query_type, sample.row.document_id) == (kind, None)
        assert section.ideas is not None
        # No translation was thought of that can be used, so a task of ours stands in, and the page says so.
        assert section.ideas.own == (kind is TaskKind.BITEXT) == (sample.row.task in OWN_TASKS.values())
        assert all(text in shown for text in (sample.row.query, sample.row.positive, *sample.row.negatives.values()))
    assert "none can be used; the task below is ours" in shown
    assert '{"tasks": ["x", "y"]}' in shown


def test_a_second_time_nothing_is_asked_and_the_page_is_the_same(tmp_path: Path) -> None:
    def samples(model: ScriptedLLM) -> str:
        with asking(CpuTimed(model), None, tmp_path / "j.sqlite", rows=1) as ask:
            found = [*ask.strategies(["mgh", "over-generate"]), *ask.tasks([TaskKind.STS])]
        return page.page(
            {"scripted": [(each, page.measure(each, embed, embed)) for each in found]},
            "command",
            {"scripted": "a script"},
        )

    first, second = ScriptedLLM(), ScriptedLLM()

    assert samples(first) == samples(second)
    assert (first.calls, second.calls) == (8, 0)


@pytest.mark.parametrize("text", ["a ` b `` c", "`", "plain", "| <script> *"])
def test_a_models_text_means_nothing_in_markdown(text: str) -> None:
    import markdown

    assert page._code(text) in page._code(text + " " * 3)
    (paragraph,) = markdown.markdown(page._code(text)).splitlines()
    assert paragraph.startswith("<p><code>")
    assert paragraph.endswith("</code></p>")
    assert paragraph.count("<") == 4


def test_the_docs_show_samples_of_every_strategy_and_kind_of_task_by_each_model() -> None:
    shown = PAGE.read_text(encoding="utf-8")

    models = shown.split("\n## ")[1:]
    assert len(models) >= 2
    for model in models:
        assert all(f"### {name}\n" in model for name in VARIANTS)
        assert all(f"### task of kind {kind}\n" in model for kind in TaskKind)
