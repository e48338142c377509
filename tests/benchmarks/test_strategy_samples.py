"""The page of samples in small: a scripted model, made-up similarities, and nothing left out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import strategy_samples
from multigrain.config import BUILT_IN_STRATEGIES
from multigrain.engine.local import LocalEngine
from multigrain.llm.protocol import CompletionRequest
from multigrain.llm.scripted import ScriptedLLM, plausible_answer
from multigrain.mining.search import Floats
from multigrain.synthesis.journal import Journal


def embed(texts: Sequence[str]) -> Floats:
    rows = [np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint8) for text in texts]
    vectors = np.stack(rows).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def script(request: CompletionRequest) -> str:
    return "`no` JSON | at all" if "level_1" in str(request.schema) else plausible_answer(request)


def test_every_strategy_is_asked_and_every_answer_is_shown(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal, LocalEngine(concurrency=1) as engine:
        found = strategy_samples.write_sections(ScriptedLLM(script), None, engine, journal, rows=2, folder=tmp_path)
        entries = len(list(journal.entries()))

    measured = [strategy_samples.measure(each, embed, embed) for each in found]
    titles = [each.title for each in found]
    assert titles[: len(BUILT_IN_STRATEGIES)] == list(BUILT_IN_STRATEGIES)
    assert entries == sum(each.calls for each in found)
    shown = strategy_samples.page({"scripted": list(zip(found, measured, strict=True))}, "command")
    assert all(f"### {title}" in shown for title in titles)
    # mgh's answers are no JSON: the row fails, and both attempts are shown, harmless to Markdown.
    assert shown.count("  - said: `` `no` JSON | at all ``") >= 4
    figures = {each.title: strategy_samples.figures(each, one) for each, one in zip(found, measured, strict=True)}
    assert figures["mgh"]["failed"] == {"prose": 2}
    assert figures["over-generate"]["negatives"] > figures["mgh-levels"]["negatives"] == 8
    assert (figures["mined"]["calls"], figures["mined"]["rows"], figures["mined"]["negatives"]) == (2, 2, 0)


def test_the_docs_show_samples_of_every_strategy() -> None:
    shown = (Path(__file__).resolve().parents[2] / "docs" / "samples.md").read_text(encoding="utf-8")

    assert all(f"### {name}\n" in shown for name in BUILT_IN_STRATEGIES)
